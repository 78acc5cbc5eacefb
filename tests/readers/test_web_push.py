"""Web Push: the encryption of RFC 8291, and when a browser is sent what, by a push service on loopback."""

import base64
import json
from pathlib import Path
from typing import Any

import http_ece
import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.access.access import OPEN, Access
from gateway.access.grants import EVERYTHING, Paths, View
from gateway.changes.cursors import Position
from gateway.changes.feed import Batch
from gateway.readers.push_encryption import VapidKey, encrypt
from gateway.readers.web_push import payload
from gateway.wire.changes import FileFeedEntry
from gateway.wire.problems import InvalidParameter
from gateway.wire.readers import PushKeys, PushRequest, PushState
from tests.readers.conftest import Place, place
from tests.readers.test_webhooks import run
from tests.support.receiver import Received, receiver


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def from_base64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def test_the_vector_of_rfc_8291() -> None:
    """Appendix A."""
    private = ec.derive_private_key(
        int.from_bytes(from_base64url("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw")), ec.SECP256R1()
    )
    keys = PushKeys(
        "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
        "BTBZMqHH6r4Tts7J_aSIgg",
    )
    found = encrypt(
        b"When I grow up, I want to be a watermelon",
        keys,
        salt=from_base64url("DGv6ra1nlYgDCS1FRnbzlw"),
        private_key=private,
    )
    assert base64url(found) == (
        "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27ml"
        "mlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPT"
        "pK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
    )


class Browser:
    """What a browser keeps of a subscription."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._secret = b"0123456789abcdef"
        point = self._key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        self.keys = {"p256dh": base64url(point), "auth": base64url(self._secret)}

    def open(self, received: Received) -> dict[str, Any]:
        opened = http_ece.decrypt(received.body, private_key=self._key, auth_secret=self._secret, version="aes128gcm")
        message: dict[str, Any] = json.loads(opened)
        return message


async def subscribe(
    here: Place, browser: Browser, url: str, *, access: Access = OPEN, view: View = EVERYTHING, **more: Any
) -> PushState:
    body = {"subscription": {"endpoint": f"{url}/push/1", "keys": browser.keys, "expirationTime": None}, **more}
    return await here.readers.registry.put_push("demo", "client", msgspec.convert(body, PushRequest), access, view)


def test_the_end_of_a_turn_is_pushed_at_once_and_files_after_a_pause(tmp_path: Path) -> None:
    async def work() -> None:
        browser = Browser()
        async with place(tmp_path) as here, receiver() as service:
            service.status = 201
            await here.put("a.md", "0")
            await subscribe(here, browser, service.url)
            await here.put("a.md", "1")
            turn = await here.turn()
            got = await service.wait_for(1)
            message = browser.open(got)
            assert message["project"] == "demo"
            assert {entry.get("turn_id", entry.get("path")) for entry in message["changes"]} == {"a.md", turn}
            headers = got.headers
            assert (headers["urgency"], headers["content-encoding"]) == ("high", "aes128gcm")
            assert len(headers["topic"]) == 32
            assert int(headers["ttl"]) > 0
            scheme, _, fields = headers["authorization"].partition(" ")
            token, key = (field.partition("=")[2] for field in fields.split(", "))
            assert scheme == "vapid"
            assert key == (await here.readers.key.open()).public
            public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), from_base64url(key))
            claims = jwt.decode(token, public, ["ES256"], audience=service.url)
            assert claims["exp"] - here.clock.now() / 1000 <= 24 * 3600
            await here.put("a.md", "2")
            here.clock.advance(29)
            await here.clock.resting.wait()
            assert len(service.requests) == 1
            here.clock.advance(2)
            assert browser.open(await service.wait_for(2))["changes"][0]["version"] == 3
            assert (await service.wait_for(2)).headers["urgency"] == "normal"

    run(work)


def test_messages_are_5_seconds_apart(tmp_path: Path) -> None:
    async def work() -> None:
        browser = Browser()
        async with place(tmp_path) as here, receiver() as service:
            await here.put("a.md", "0")
            await subscribe(here, browser, service.url, quiet_seconds=0)
            await here.pushed(await here.put("a.md", "1"))
            for number in range(3):
                await here.put(f"{number}.md", "x")
            await here.until(lambda reader: reader.stage == "pause")
            assert len(service.requests) == 1
            here.clock.advance(5)
            message = browser.open(await service.wait_for(2))
            assert [entry["path"] for entry in message["changes"]] == ["0.md", "1.md", "2.md"]

    run(work)


def test_a_client_that_is_connected_gets_none(tmp_path: Path) -> None:
    async def work() -> None:
        browser = Browser()
        async with place(tmp_path) as here, receiver() as service:
            await here.put("a.md", "0")
            await subscribe(here, browser, service.url, quiet_seconds=0)
            connected = here.connected
            with connected.held("demo", "client"):
                await here.turn()
                await here.clock.resting.wait()
                here.clock.advance(21)
                end = await here.put("b.md", "later")
                here.clock.advance(21)
                await here.pushed(end)
                assert service.requests == []
                await here.turn()  # it may be that nobody listens any more, and the connection is not known to be dead
            here.clock.advance(21)
            assert browser.open(await service.wait_for(1))["changes"]

    run(work)


@pytest.mark.parametrize("status", [404, 410])
def test_a_subscription_that_is_gone_ends(status: int, tmp_path: Path) -> None:
    async def work() -> None:
        browser = Browser()
        async with place(tmp_path) as here, receiver() as service:
            service.status = status
            await here.put("a.md", "0")
            await subscribe(here, browser, service.url)
            await here.turn()
            await service.wait_for(1)
            await here.until(lambda reader: reader.stage == "ended")
            await here.turn()
            await here.clock.resting.wait()
            assert len(service.requests) == 1
            service.status = 201
            await subscribe(here, browser, service.url)  # the page comes again
            await here.turn()
            await service.wait_for(2)

    run(work)


def test_too_large_is_sent_smaller_and_too_many_later(tmp_path: Path) -> None:
    async def work() -> None:
        browser = Browser()
        async with place(tmp_path) as here, receiver() as service:
            service.status = 413
            await here.put("a.md", "0")
            await subscribe(here, browser, service.url)
            await here.turn()
            small = browser.open(await service.wait_for(2))
            assert (small["changes"], small["more"]) == ([], True)
            service.status, service.headers = 429, {"Retry-After": "60"}
            await here.until(lambda reader: reader.stage == "retry")
            here.clock.advance(6)
            await service.wait_for(3)
            await here.until(lambda reader: '"attempts":2' in reader.state)
            service.status = 201
            here.clock.advance(301)
            await service.wait_for(4)

    run(work)


def test_what_does_not_exist_for_the_subject_is_not_pushed(tmp_path: Path) -> None:
    async def work() -> None:
        browser = Browser()
        async with place(tmp_path) as here, receiver() as service:
            await here.put("a.md", "0")
            view = View(frozenset({"read"}), Paths.of(["docs/"]))
            await subscribe(here, browser, service.url, view=view, quiet_seconds=0, filter={})
            await here.put("secret.md", "s")
            await here.turn()
            await here.put("docs/a.md", "d")
            message = browser.open(await service.wait_for(1))
            assert [entry["path"] for entry in message["changes"]] == ["docs/a.md"]

    run(work)


def test_subscriptions_name_push_services_only(tmp_path: Path) -> None:
    async def work() -> None:
        browser = Browser()
        async with place(tmp_path, push_hosts=()) as here:
            await here.put("a.md", "0")
            for url in (
                "https://example.org",
                "http://fcm.googleapis.com",
                "https://127.0.0.1",
                "https://evil.apple.com",
            ):
                with pytest.raises(InvalidParameter):
                    await subscribe(here, browser, url)
            await subscribe(here, browser, "https://db5p.notify.windows.com")
            await subscribe(here, browser, "https://fcm.googleapis.com")
            browser.keys["p256dh"] = base64url(b"\4" + bytes(64))
            with pytest.raises(InvalidParameter):
                await subscribe(here, browser, "https://fcm.googleapis.com")

    run(work)


def test_the_key_is_made_once(tmp_path: Path) -> None:
    async def work() -> None:
        keys = []
        for _ in range(2):
            async with place(tmp_path) as here:
                keys.append((await here.readers.key.open()).public)
        assert keys[0] == keys[1]
        own = VapidKey.make()
        async with place(tmp_path, vapid_key=own) as here:
            assert (await here.readers.key.open()).public == VapidKey(own).public != keys[0]

    run(work)


def test_a_message_fits_into_what_a_push_service_takes() -> None:
    entries: list[Any] = [
        FileFeedEntry("x" * 1000 + str(number), "2026-11-29T12:00:00.000Z", number, "modified") for number in range(10)
    ]
    batch = Batch(entries, "epoch.9", 9, False, Position(0))
    message = payload("demo", batch)
    told = json.loads(message)
    assert len(message) <= 3993
    assert [entry["version"] for entry in told["changes"]] == [7, 8, 9]  # the newest
    assert told["more"]
