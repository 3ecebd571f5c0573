"""Write the images of this example: data/photos without labels, and data/{train,val}.csv."""

import csv
import json
import shutil
from pathlib import Path

from mmcrosscl.datasets.demo import write_demo_objects, write_demo_photos

DATA = Path('data')


def main() -> None:
    DATA.mkdir()
    write_demo_photos(DATA / 'photos', count=120)
    write_demo_objects(DATA / 'objects', train=60, val=30)
    (DATA / 'images').mkdir()
    for split in ('train', 'val'):
        coco = json.loads((DATA / f'objects/annotations/{split}.json').read_text())
        images = {image['id']: f'{split}_{image["file_name"]}' for image in coco['images']}
        for image in coco['images']:
            source = DATA / 'objects' / split / image['file_name']
            shutil.move(source, DATA / 'images' / images[image['id']])
        names = {category['id']: category['name'] for category in coco['categories']}
        with open(DATA / f'{split}.csv', 'w', newline='') as file:
            writer = csv.writer(file)
            writer.writerow(['image', 'x0', 'y0', 'x1', 'y1', 'label'])
            for box in coco['annotations']:
                x, y, width, height = box['bbox']
                corners = (x, y, x + width, y + height)
                writer.writerow([images[box['image_id']], *corners, names[box['category_id']]])
    shutil.rmtree(DATA / 'objects')


if __name__ == '__main__':
    main()
