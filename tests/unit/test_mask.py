"""What no message may show."""

from __future__ import annotations

import pytest

from builder.core.mask import masked, secrets_of


@pytest.mark.parametrize(
    "name", ["HF_TOKEN", "registry_password", "DB_PASSWD", "API_KEY", "APIKEY", "MY_SECRET", "AWS_CREDENTIALS"]
)
def test_names_that_mean_a_secret(name: str) -> None:
    assert secrets_of({name: " value1 ", "OTHER": "visible"}) == ["value1"]


@pytest.mark.parametrize("name", ["HF_TOKEN_PATH", "PASSWORD_FILE", "SECRET_DIR", "BAKE_SECRETS", "HOME", "PATH"])
def test_a_path_to_a_secret_is_none(name: str) -> None:
    assert secrets_of({name: "/run/secrets"}) == []


def test_six_characters_are_a_secret_and_five_are_not() -> None:
    """A shorter one would be found in every message."""
    assert secrets_of({"A_TOKEN": "sixsix", "B_TOKEN": "five5"}) == ["sixsix"]


def test_the_longest_is_masked_first() -> None:
    """One secret may be the beginning of another."""
    secrets = secrets_of({"A_TOKEN": "abcdef", "B_TOKEN": "abcdefghi"})
    assert secrets == ["abcdefghi", "abcdef"]
    assert masked("x abcdefghi y abcdef z", secrets) == "x *** y *** z"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("token hf_AbC123 was refused", "token *** was refused"),
        ("hf_AbC12", "hf_AbC12"),  # too short for one
        ("xhf_AbC123", "xhf_AbC123"),
        ("https://me:pass@host/x and http://you@other/", "https://***@host/x and http://***@other/"),
        ("https://host/a@b", "https://host/a@b"),
        ("me@host", "me@host"),
        ("'https://host' me@x", "'https://host' me@x"),
    ],
)
def test_tokens_and_logins_are_masked_wherever_they_stand(text: str, shown: str) -> None:
    assert masked(text, []) == shown
