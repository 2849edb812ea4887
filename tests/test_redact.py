import time

import pytest

from ray_classy.errors import DataError
from ray_classy.redact import MASK, is_secret, redacted, redacted_values

SECRET = "wJalrXUtnFEMI"
URLS = [
    (f"s3://AKIA:{SECRET}@bucket/runs?region=eu", "s3://bucket/runs?region=eu"),
    (f"s3://AKIA:{SECRET}/x@bucket/runs", "s3://***@bucket/runs"),
    (f"s3://AKIA:1/{SECRET}@bucket/runs", "s3://***@bucket/runs"),
    (f"s3://AKIA:a@{SECRET}@bucket/runs", "s3://***@bucket/runs"),
    (f"s3://AKIA:a@b/{SECRET}@bucket/runs", "s3://***@bucket/runs"),
    (f"s3://AKIA:a?{SECRET}@bucket/runs", "s3://***@bucket/runs"),
    (
        f"s3://bucket/a?access_key=A&secret_key={SECRET}&region=r",
        "s3://bucket/a?access_key=***&secret_key=***&region=r",
    ),
    (f"https://user:{SECRET}@host:80/x", "https://host:80/x"),
    (f"https://{SECRET}@host/x", "https://host/x"),
    (f"https://host/x?token={SECRET}", "https://host/x?token=***"),
    (f"https://host/x?a=1&sig={SECRET}&b=2#c", "https://host/x?a=1&sig=***&b=2#c"),
    (
        f"https://h/x?X-Amz-Credential={SECRET}%2F&X-Amz-Signature={SECRET}",
        "https://h/x?X-Amz-Credential=***&X-Amz-Signature=***",
    ),
    (f"https://h/x?X-Amz-Security-Token={SECRET}&X-Amz-Date=1", "https://h/x?X-Amz-Security-Token=***&X-Amz-Date=1"),
    (f"https://h/x?api_key={SECRET}", "https://h/x?api_key=***"),
    (f"https://h/x?key={SECRET}", "https://h/x?key=***"),
    (f"https://h/x#access_token={SECRET}", "https://h/x#access_token=***"),
    (
        f"https://a.blob.core.windows.net/c?sv=1&se=2&sig={SECRET}%3D",
        "https://a.blob.core.windows.net/c?sv=1&se=2&sig=***",
    ),
    (f"git+https://{SECRET}@github.com/a/b.git@main", "git+https://github.com/a/b.git@main"),
    (f"git+https://oauth2:{SECRET}@host/a.git", "git+https://host/a.git"),
    ("https://h/x?token=12345678", "https://h/x?token=***"),
    (f"sftp://user:{SECRET}@host/x", "sftp://user@host/x"),
    (f"abfss://container:{SECRET}@account.dfs.core.windows.net/x", "abfss://container@account.dfs.core.windows.net/x"),
    (f"simplecache::s3://A:{SECRET}@bucket/x", "simplecache::s3://bucket/x"),
    (f"https://proxy/?url=https://u:{SECRET}@host/x", "https://proxy/?url=https://host/x"),
]
PLAIN = [
    "s3://bucket/a@b/c?region=r",
    "abfss://container@account.dfs.core.windows.net/x",
    "http://host:8080/a@b",
    "http://[::1]:8080/a@b",
    "ray://10.0.0.1:10001",
    "sftp://user@host/x",
    "/data/a@b:c?token",
    "config.yaml:3: optimizer.lr: expected a number, not 'x'",
    "config.yaml:3: env_vars.API_KEY: expected a string, not null",
    "PWD=/home/x class_token=cls",
    "git+ssh://git@github.com/a/b.git",
    "at signature=0.93 secret=1e-3, credential=12",
    "{signature: 0.93, 'secret': 3}",
    "signature: [0.5, 1.5]\nsecret: 0.5  # line 3",
    "Basic augmentations are used; Basic resnet50x, Bearer augmentations",
    "tokens=many sort_key=name password_field=pw tokenizer=bert shared_keys=image token_type=bpe",
]


@pytest.mark.parametrize("url, printed", URLS)
def test_a_url_loses_its_secrets(url, printed):
    assert redacted_values({"files": [url]}) == {"files": [printed]}


@pytest.mark.parametrize("around", ["{}", "cannot read '{}': it failed", "see ({}).", 'run --resume "{}"', "a {}, b"])
@pytest.mark.parametrize("url, printed", URLS)
def test_urls_in_a_text_lose_their_secrets(url, printed, around):
    assert redacted(around.format(url)) == around.format(printed)


@pytest.mark.parametrize("text", PLAIN)
def test_what_is_no_secret_stays(text):
    assert redacted(text) == text
    assert redacted_values([text]) == [text]


@pytest.mark.parametrize(
    "text",
    [
        f"WANDB_API_KEY={SECRET} ray-classy",
        f"override 'hooks.0.password={SECRET} with {SECRET}': unknown key",
        f"{{'api_key': '{SECRET}'}}",
        f'{{"secret" : "{SECRET}"}}',
        f"ray.runtime_env.env_vars={{A: b, MY_TOKEN: {SECRET}}}",
        f"a: b\n  hf_token: {SECRET}\n",
        f"Authorization: Bearer {SECRET}",
        f"PGPASSWORD={SECRET}",
    ],
)
def test_named_secrets_in_a_text_are_masked(text):
    assert SECRET not in redacted(text)
    assert MASK in redacted(text)


@pytest.mark.parametrize(
    "value", ["Bearer a1b2c3d4e5", "Bearer " + "a" * 32, "Basic dXNlcjpwYXNzd29yZA==", "Basic YTpiYmI="]
)
def test_credentials_of_a_header_are_masked(value):
    assert redacted(f"the header {value}.").startswith(f"the header {value.split()[0]} ***")


def test_values_of_the_environment_are_masked_in_texts(monkeypatch):
    monkeypatch.setenv("MY_SERVICE_TOKEN", SECRET)
    assert redacted(f"the server refuses {SECRET}!") == "the server refuses ***!"
    assert redacted_values({"a": SECRET, "path": f"/data/{SECRET}/x"}) == {"a": MASK, "path": f"/data/{SECRET}/x"}


@pytest.mark.parametrize("value", ["training", "a-usual-long-name", "Training-Images", "x1"])
def test_usual_words_stay_though_a_password_is_one(monkeypatch, value):
    monkeypatch.setenv("DB_PASSWORD", value)
    assert redacted(f"runs/{value}/x") == f"runs/{value}/x"
    assert redacted_values({"name": value}) == {"name": value}


def test_a_value_of_the_environment_is_not_masked_within_a_word(monkeypatch):
    monkeypatch.setenv("DB_PASSWORD", SECRET)
    assert redacted(f"a{SECRET} {SECRET}_b /{SECRET}/") == f"a{SECRET} {SECRET}_b /***/"


def test_numbers_are_never_masked():
    metrics = {"tokens": 196, "signature": 0.93, "credential": {"top_1": 0.5}, "secret": [1, 2]}
    assert redacted_values(metrics) == metrics
    assert redacted_values(["a.signature=0.5", "a.password='5'"]) == ["a.signature=0.5", "a.password=***"]


def test_keys_that_name_secrets_are_masked():
    config = {"env_vars": {"AWS_SECRET_ACCESS_KEY": "a", "X_TOKEN": "b", "N": "c"}, "secrets": ["d", {"e": "f"}]}
    masked = {"env_vars": {"AWS_SECRET_ACCESS_KEY": MASK, "X_TOKEN": MASK, "N": "c"}, "secrets": [MASK, {"e": MASK}]}
    assert redacted_values(config) == masked
    assert redacted_values({"password": None, "class_token": "mean", "key": "input"}) == {
        "password": None,
        "class_token": "mean",
        "key": "input",
    }


def test_words_of_a_command_are_masked_to_their_end():
    words = ["a.password=b c", f"x.files=[s3://a:{SECRET}@b/c d]", "n=1"]
    assert redacted_values(words) == ["a.password=***", "x.files=[s3://b/c d]", "n=1"]


def test_redacting_again_changes_nothing():
    for url, _ in URLS:
        once = redacted_values(url)
        assert redacted_values(once) == once == redacted(once)


def test_long_texts_take_no_long_time():
    began = time.monotonic()
    for text in (
        "token=" + "1" * 10**6 + "x",
        "a" * 10**6,
        "a://" * 10**5,
        "'" * 10**5,
        "token:" * 10**5,
        "a=" * 10**5,
        "@:/" * 10**5,
    ):
        redacted(text)
    assert time.monotonic() - began < 5


def test_errors_print_no_secrets():
    assert str(DataError(f"cannot read s3://a:{SECRET}@b")) == "cannot read s3://b"


@pytest.mark.parametrize("name", ["api_key", "apiKey", "AWS_ACCESS_KEY_ID", "hf-token", "x.y.password", "AccountKey"])
def test_names_of_secrets(name):
    assert is_secret(name)


@pytest.mark.parametrize(
    "name",
    ["tokens", "user_tokens", "tokenizer", "sort_key", "password_field", "token_type", "shared_keys", "digit_token"],
)
def test_names_that_only_sound_like_secrets(name):
    assert not is_secret(name)
