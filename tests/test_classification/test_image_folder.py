import pytest

from mmdet_scconv.classification import ImageFolder


@pytest.fixture
def root(tmp_path):
    for name in ('cat/b.JPEG', 'cat/a.png', 'cat/more/c.jpg', 'cat/notes.txt',
                 'dog/a.jpg', 'readme.txt', 'cat/._a.png',
                 '.ipynb_checkpoints/a.png'):
        path = tmp_path / 'train' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def entries(dataset):
    return [(entry['img_path'].split('/train/')[1], entry['gt_label'])
            for entry in dataset]


def test_labels_follow_the_sorted_folders(root):
    dataset = ImageFolder(
        data_root=str(root), data_prefix=dict(img='train'), num_classes=2)
    assert entries(dataset) == [('cat/a.png', 0), ('cat/b.JPEG', 0),
                                ('cat/more/c.jpg', 0), ('dog/a.jpg', 1)]
    assert dataset.metainfo['classes'] == ('cat', 'dog')


def test_labels_follow_the_given_classes(root):
    dataset = ImageFolder(
        data_root=str(root / 'train'), metainfo=dict(classes=('dog', 'cat')))
    assert entries(dataset)[0] == ('dog/a.jpg', 0)


@pytest.mark.parametrize('options,message', [
    (dict(metainfo=dict(classes=('cat', ))), r"missing \[\], unknown \['dog'"),
    (dict(metainfo=dict(classes=('cat', 'dog', 'cow'))), r"missing \['cow'\]"),
    (dict(num_classes=3), '2 class folders, num_classes=3'),
])
def test_labels_that_would_be_shifted(root, options, message):
    with pytest.raises(ValueError, match=message):
        ImageFolder(data_root=str(root / 'train'), **options)


def test_class_without_images(root):
    (root / 'train/dog/a.jpg').unlink()
    with pytest.raises(ValueError, match='dog: no images'):
        ImageFolder(data_root=str(root / 'train'))


def test_missing_folder(root):
    with pytest.raises(FileNotFoundError, match='val: no such folder'):
        ImageFolder(data_root=str(root), data_prefix=dict(img='val'))
