"""A dataset of this project: boxes in a CSV file, which no class of MMDetection reads."""

import csv
from collections import defaultdict
from pathlib import Path

from mmdet.datasets import BaseDetDataset
from mmdet.registry import DATASETS
from PIL import Image


@DATASETS.register_module()
class CsvDataset(BaseDetDataset):
    """Images with the boxes of a CSV file with the columns image, x0, y0, x1, y1 and label."""

    def load_data_list(self) -> list[dict]:
        boxes = defaultdict(list)
        with open(self.ann_file, newline='') as file:
            for row in csv.DictReader(file):
                boxes[row['image']].append(row)
        folder = Path(self.data_prefix['img'])
        return [
            self._info(number, folder / name, rows)
            for number, (name, rows) in enumerate(sorted(boxes.items()))
        ]

    def _info(self, number: int, path: Path, rows: list[dict]) -> dict:
        with Image.open(path) as image:
            width, height = image.size
        labels = self.metainfo['classes']
        instances = [
            dict(
                bbox=[float(row[edge]) for edge in ('x0', 'y0', 'x1', 'y1')],
                bbox_label=labels.index(row['label']),
                ignore_flag=0,
            )
            for row in rows
        ]
        return dict(
            img_id=number, img_path=str(path), width=width, height=height, instances=instances
        )
