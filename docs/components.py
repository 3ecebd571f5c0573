"""Reference of all registered components, from their signatures and docstrings."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from docstring_parser import Docstring, DocstringStyle, parse
from mmengine.registry import Registry

from mmcrosscl import registry

TITLES = {
    'MODELS': 'Models',
    'TRANSFORMS': 'Transforms',
    'DATASETS': 'Datasets',
    'DATA_SAMPLERS': 'Samplers',
    'FUNCTIONS': 'Functions',
    'HOOKS': 'Hooks',
    'RUNNERS': 'Runners',
    'LOOPS': 'Loops',
    'OPTIM_WRAPPERS': 'Optimizer wrappers',
    'METRICS': 'Metrics',
    'VISUALIZERS': 'Visualizers',
}


def components() -> Iterator[tuple[str, str, object]]:
    """Yield the registry's name, the name and the class or function of each component."""
    for title in TITLES:
        parent: Registry = getattr(registry, title)
        # a registry imports its modules when it is first searched
        parent.import_from_location()
        for name, component in sorted(parent.module_dict.items()):
            yield title, name, component


def settings(component: object) -> list[tuple[str, str, str, str]]:
    """Return the name, the type, the default and the description of each setting."""
    # an inherited constructor is documented by its class
    sources = component.__mro__[::-1] if inspect.isclass(component) else [component]
    documented = {x.arg_name.lstrip('*'): x for each in sources for x in _docstring(each).params}
    rows = []
    for name, parameter in inspect.signature(component).parameters.items():
        text = documented.get(name)
        default = parameter.default
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            name, shown = f'**{name}', ''
        elif default is parameter.empty:
            shown = 'required'
        else:
            shown = f'`{default!r}`'
        kind = (text and text.type_name or '').replace(', optional', '')
        rows.append((name, kind, shown, ' '.join((text and text.description or '').split())))
    return rows


def _docstring(component: object) -> Docstring:
    return parse(inspect.getdoc(component) or '', DocstringStyle.GOOGLE)


def write_components(path: Path) -> None:
    """Write the reference as a page."""
    lines = ['# Components', '', 'Each component is a `type` in configs, such as']
    lines += ["`type='mmcrosscl.TwoCrops'`.", '']
    last = None
    for title, name, component in components():
        if title != last:
            lines += [f'## {TITLES[title]}', '']
            last = title
        lines += [f'### {name}', '', _markdown(_docstring(component).short_description), '']
        if long := _docstring(component).long_description:
            lines += [_markdown(' '.join(long.split())), '']
        rows = settings(component) if inspect.isclass(component) else []
        if rows:
            lines += ['| setting | type | default | meaning |', '|---|---|---|---|']
            for setting, kind, default, text in rows:
                cells = (f'`{setting}`', kind and f'`{kind}`', default, _markdown(text))
                lines.append('| ' + ' | '.join(_cell(x) for x in cells) + ' |')
            lines.append('')
    text = '\n'.join(lines)
    # an unchanged file is not built again
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def _cell(text: str) -> str:
    return text.replace('|', '\\|')


def _markdown(text: str | None) -> str:
    """Return reStructuredText of a docstring as Markdown."""
    text = re.sub(r':(?:class|func|meth|attr):`~?([^`]+)`', r'`\1`', text or '')
    return text.replace('``', '`')
