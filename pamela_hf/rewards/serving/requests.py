"""What may be sent: images as base64 or data URLs in JSON. Nothing is fetched, no path is opened, nothing unpickled."""

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...files.images import ImageError, open_image_checked
from .service import Question, ScoringService

_DATA_URL = re.compile(r"data:image/[\w.+-]+;base64,", re.IGNORECASE)


class RequestError(ValueError):
    """A request that cannot be answered: the message says what was sent, what is allowed and what to do."""


@dataclass(frozen=True)
class ScoreRequest:
    """A request, checked and decoded.

    Attributes:
        questions: its images that can be read.
        at: which of the N images these are.
        n: how many images there are.
        users: for whom, by name; `None` = everyone's taste.
        errors: index → why an image cannot be read.
    """

    questions: list[Question]
    at: list[int]
    n: int
    users: list[str | None]
    errors: dict[int, str]


def parse_body(body: bytes) -> dict[str, Any]:
    """The JSON object of a request. Raises RequestError for anything else."""
    try:
        read = json.loads(body)
    except (ValueError, RecursionError):
        raise RequestError("The body is no JSON. Send an object with Content-Type: application/json.") from None
    if not isinstance(read, dict):
        raise RequestError(f"The body is a JSON {type(read).__name__}; send an object.")
    return read


def read_score(service: ScoringService, sent: Mapping[str, Any]) -> ScoreRequest:
    """A request of `/v1/score`: `{"images": […], "prompts": text or list, "users": […]}`.

    Raises:
        RequestError: a field of another type, more images or people than allowed, a user whom nobody knows.
    """
    if unknown := sorted(set(sent) - {"images", "prompts", "users"}):
        raise RequestError(f"{unknown[0]!r} is not a field of this request; it takes images, prompts, users.")
    users = sent.get("users")
    default = getattr(service.reward.user, "name", service.reward.user)
    users = [default] if users is None else [users] if isinstance(users, str) else users
    _check_list("users", users, service.limits.max_users)
    for user in users:
        if not isinstance(user, (str, type(None))):
            raise RequestError(f"users: {str(user)[:80]!r} must be a name, or null for everyone's taste.")
    return _read(service, sent.get("images"), sent.get("prompts"), users)


def read_compute(service: ScoringService, sent: Mapping[str, Any], user: str | None = None) -> ScoreRequest:
    """A request of Flow-Factory's client (`/compute`): `{"prompt": […], "image": […], "extra": {"user": …}}`.

    X-GenGroup/Flow-Factory, src/flow_factory/rewards/my_reward_remote.py at commit a0b2bc5, sends `prompt`, `image`
    (base64 of PNG) and `video`, `condition_images`, `condition_videos`, null where there are none; its server takes
    `extra`, too. `user` is the one of the address, `/users/NAME/compute`.

    Raises:
        RequestError: no images, or as in [`read_score`].
    """
    if not sent.get("image"):
        raise RequestError("image is missing: this reward scores images, not videos or texts alone.")
    extra = sent.get("extra") if isinstance(sent.get("extra"), Mapping) else {}
    named = extra.get("user") if extra.get("user") is not None else user
    n = len(sent["image"]) if isinstance(sent["image"], list) else 0
    each = list(named) if isinstance(named, list) else [named] * n
    if len(each) != n or any(not isinstance(one, (str, type(None))) for one in each):
        raise RequestError(f"extra.user: give one name for all, or one for each of {n} images.")
    default = getattr(service.reward.user, "name", service.reward.user)
    each = [default if one is None else one for one in each]
    return _read(service, sent["image"], sent.get("prompt"), each, rewarded=True)


def _read(
    service: ScoringService, images: Any, prompts: Any, users: Sequence[str | None], rewarded: bool = False
) -> ScoreRequest:
    _check_list("images", images, service.limits.max_images)
    texts = [prompts] * len(images) if prompts is None or isinstance(prompts, str) else prompts
    _check_list("prompts", texts, service.limits.max_images)
    if len(texts) != len(images):
        raise RequestError(f"prompts has {len(texts)} entries for {len(images)} images; give one for all, or one each.")
    if wrong := [text for text in texts if not isinstance(text, (str, type(None)))]:
        raise RequestError(f"prompts: {str(wrong[0])[:80]!r} must be a text, or null.")
    try:
        people = service.people(users)
    except ValueError as error:
        raise RequestError(str(error)) from None
    questions, at, errors = [], [], {}
    for i, (image, text) in enumerate(zip(images, texts)):
        try:
            picture = open_image_checked(decode_image(image), name=f"images[{i}]")
        except ImageError as error:
            errors[i] = str(error)
            continue
        of = (people[i],) if rewarded else people
        questions.append(Question(service.prepare(picture), text if text and text.strip() else None, of, rewarded))
        at.append(i)
    service.metrics.unreadable(len(errors))
    return ScoreRequest(questions, at, len(images), list(users), errors)


def decode_image(image: Any) -> bytes:
    """The bytes of an image sent as base64, alone or as a data URL.

    Raises:
        ImageError: it is neither. Addresses and paths are not followed.
    """
    if not isinstance(image, str):
        raise ImageError(f"An image is a {type(image).__name__}; send base64 or a data URL.")
    prefix = _DATA_URL.match(image[:100])
    try:
        return base64.b64decode(image[prefix.end() :] if prefix else image, validate=True)
    except (binascii.Error, ValueError):
        raise ImageError(
            f"An image begins with {image[:24]!r}, which is not base64. Send base64 or a data URL "
            "(data:image/png;base64,…); addresses and paths are not opened."
        ) from None


def _check_list(name: str, values: Any, most: int) -> None:
    if not isinstance(values, list) or not values:
        raise RequestError(f"{name} must be a list of at least one.")
    if len(values) > most:
        raise RequestError(f"{name} has {len(values)} entries; at most {most} are allowed. Send several requests.")
