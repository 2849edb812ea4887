from ray_classy.inference.preprocessing import Preprocessing

TRANSFORMS = [{"name": "apply_transform_to_key", "key": "input", "transforms": [{"name": "ToTensor"}]}]


def test_the_test_side_of_a_split_has_the_keys_of_the_train_side():
    train = {"name": "manifest", "manifest": "rows.csv", "image_mode": "L", "batchsize_per_replica": 2}
    dataset = {"split": {"test": 0.2}, "train": {**train, "transforms": TRANSFORMS}}
    assert Preprocessing.from_config({"dataset": dataset}).mode == "L"
    made = Preprocessing.from_config({"dataset": {**dataset, "test": {"background": "white"}}})
    assert made.mode == "L" and made.options.background == "white"
