"""The library: connector folders read once, checked against the manifest's contract, and frozen."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from connectors.engine import (
    call_budgets,
    declaring,
    manifest_parts,
    schemas,
    signing_in,
    subscribing,
)
from connectors.engine.connector import (
    LIFECYCLE_STEPS,
    Action,
    Auth,
    Connector,
    Envelope,
    ErrorRule,
    Every,
    Http,
    LifecycleStep,
    Reconcile,
    RequestTemplate,
    Subscribe,
    Trigger,
)
from connectors.engine.findings import Finding, say
from connectors.engine.yaml_lines import Lines, Unreadable, read
from kernel import documents
from kernel.errors import N_, NotFound

HERE = Path(__file__).parent.parent
LIBRARY = HERE / "library"
DEFAULT_LADDER = (5, 30, 120, 600, 3600)
MAX_FOLDER_FILES = 400
POLLED_ID = "webhook-id"  # where a listed object carries what tells it apart


class Unfit(Exception):  # noqa: N818 - it says what the folder is
    """The folder is not a connector; `findings` say why, with file, line and pointer."""

    def __init__(self, findings: list[Finding]) -> None:
        """Keep the findings; the text is the first one's."""
        super().__init__(findings[0].plain())
        self.findings = findings


@cache
def library() -> Mapping[str, Connector]:
    """Return every connector of the library by key; a folder that does not fit is an Unfit."""
    folders = sorted(path.parent for path in LIBRARY.glob("*/manifest.yaml"))
    return MappingProxyType({folder.name: load(folder) for folder in folders})


# Asked for connectors that stand elsewhere: those that vendors published, by key and version.
SHELVES: list[Callable[[str], Connector | None]] = []
ELSEWHERE = "@"  # stands in their keys, and in none of the library's


def known(key: str | None) -> Connector | None:
    """Return a connector of the library or of a vendor; None when there is none."""
    if key and ELSEWHERE in key:
        return next((one for shelf in SHELVES if (one := shelf(key)) is not None), None)
    return library().get(key or "")


def find(key: str) -> Connector:
    """Return one connector of the library or of a vendor; raises NotFound."""
    connector = known(key)
    if connector is None:
        raise NotFound(detail=N_("There is no connector %(key)s"), key=key)
    return connector


@cache
def manifest_schema() -> dict[str, Any]:
    """Return the manifest's contract."""
    schema: dict[str, Any] = documents.parse((HERE / "manifest.schema.json").read_bytes())
    return schema


def load(folder: Path) -> Connector:
    """Read a connector folder; raises Unfit."""
    lines = read_manifest(folder)
    findings = [
        Finding("C01", problem.say, "manifest.yaml", lines.line(problem.target), problem.target)
        for problem in schemas.problems(manifest_schema(), lines.value)
    ]
    if findings:
        raise Unfit(findings)
    builder = _Builder(folder, lines)
    connector = builder.connector()
    if builder.findings:
        raise Unfit(builder.findings)
    return connector


def read_manifest(folder: Path) -> Lines:
    """Read manifest.yaml with its line numbers; raises Unfit."""
    path = folder / "manifest.yaml"
    if not path.is_file():
        text = say("缺少 manifest.yaml", "manifest.yaml is missing")
        raise Unfit([Finding("C01", text)])
    try:
        return read(path)
    except Unreadable as bad:
        raise Unfit([Finding("C01", bad.say, "manifest.yaml", bad.line)]) from bad


def digest(folder: Path) -> str:
    """Return the digest of everything in the folder: names and bytes, in order."""
    mixed = hashlib.sha256()
    for path in files(folder):
        name = path.relative_to(folder).as_posix().encode()
        body = path.read_bytes()
        mixed.update(b"%d:%s%d:" % (len(name), name, len(body)))
        mixed.update(body)
    return f"sha256:{mixed.hexdigest()}"


def files(folder: Path) -> list[Path]:
    """Return the folder's files, sorted; hidden ones are not part of it."""
    found = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    if len(found) > MAX_FOLDER_FILES:
        text = say(
            f"文件夹里超过 {MAX_FOLDER_FILES} 个文件",
            f"The folder holds more than {MAX_FOLDER_FILES} files",
        )
        raise Unfit([Finding("C01", text, ".")])
    return found


class _Builder:
    """Turns a manifest that fits its contract into the frozen dataclasses."""

    def __init__(self, folder: Path, lines: Lines) -> None:
        self.folder, self.lines = folder, lines
        tables = lines.value.get("tables", {})
        self.manifest: dict[str, Any] = (
            declaring.with_tables(lines.value, tables) if tables else lines.value
        )
        self.defaults: dict[str, Any] = self.manifest.get("defaults", {})
        self.findings: list[Finding] = []

    def connector(self) -> Connector:
        about = self.manifest["connector"]
        return Connector(
            key=about["key"],
            version=about["version"],
            title=about["title"],
            summary=about["summary"],
            slots=tuple(about["slots"]),
            hosts=tuple(about["hosts"]),
            settings_hosts=tuple(about.get("settings_hosts", ())),
            support=about["support"],
            settings=self._settings(),
            auth=tuple(self._auth(one) for one in self.manifest.get("auth", [])),
            http=self._http(self.manifest["http"]),
            lifecycle=self._lifecycle(),
            triggers={
                key: self._trigger(key, one)
                for key, one in self.manifest.get("triggers", {}).items()
            },
            actions={
                key: self._action(key, one) for key, one in self.manifest.get("actions", {}).items()
            },
            exempt=self.manifest.get("exempt", {}),
            lookups=declaring.lookups(self.manifest, self._reads),
            maps=declaring.maps(self.manifest),
            folder=self.folder,
            digest=digest(self.folder),
            stream=signing_in.stream(self.manifest, (self._request, self._envelope, self._errors)),
            **manifest_parts.known(about),
        )

    @property
    def _reads(self) -> declaring.Reads:
        return self._schema, manifest_parts.envelope, manifest_parts.rules

    def _settings(self) -> dict[str, Any]:
        silent: dict[str, Any] = {"type": "object", "properties": {}}
        schema: dict[str, Any] = self.manifest.get("settings", silent)
        self._probe(schema, "/settings", "manifest.yaml", self.lines.line("/settings"))
        return schema

    def _probe(self, schema: Any, at: str, file: str, line: int) -> None:
        try:
            schemas.validator(schema)
        except schemas.BadSchema as bad:
            detail = str(bad)[:300]
            self.findings.append(
                Finding(
                    "C01",
                    say(f"不是有效的 JSON Schema：{detail}", f"Not a valid JSON Schema: {detail}"),
                    file,
                    line,
                    at,
                )
            )

    def _schema(self, value: dict[str, Any], at: str) -> Mapping[str, Any]:
        """Return a schema written in place, or the one in the file it points to."""
        line = self.lines.line(at)
        name = value.get("$ref")
        if not isinstance(name, str) or name.startswith("#"):
            self._probe(value, at, "manifest.yaml", line)
            return value
        path = self.folder / name
        inside = path.resolve().is_relative_to((self.folder / "schemas").resolve())
        if not inside or path.suffix != ".json" or not path.is_file():
            text = say(
                f"找不到 {name}；模式文件放在 schemas/ 里",
                f"{name} is not there; schema files live in schemas/",
            )
            self.findings.append(Finding("C01", text, "manifest.yaml", line, at))
            return {}
        try:
            found = read(path).value
        except Unreadable as bad:
            self.findings.append(Finding("C01", bad.say, name, bad.line))
            return {}
        self._probe(found, "", name, 1)
        return found if isinstance(found, dict) else {}

    def _auth(self, one: dict[str, Any]) -> Auth:
        return signing_in.auth(one, (self._request, self._envelope, self._errors))

    def _http(self, http: dict[str, Any]) -> Http:
        retry = http.get("retry", {})
        return Http(
            base=http["base"],
            timeout_seconds=http.get("timeout_seconds", 15),
            max_response_bytes=http.get("max_response_bytes", 65_536),
            envelope=manifest_parts.envelope(http.get("envelope", {})),
            errors=manifest_parts.rules(http.get("errors", [])),
            ladder_seconds=tuple(retry.get("ladder_seconds", DEFAULT_LADDER)),
            jitter=float(retry.get("jitter", 0.2)),
            bases=http.get("bases", {}),
            budgets=tuple(call_budgets.read(one) for one in http.get("budgets", ())),
            transports=declaring.transports(http),
        )

    def _request(self, request: dict[str, Any]) -> RequestTemplate:
        return RequestTemplate(
            method=request["method"],
            path=request["path"],
            query=self._query(request.get("query", {})),
            headers={**self.defaults.get("headers", {}), **request.get("headers", {})},
            json=request.get("json"),
            auth=request.get("auth", self.defaults.get("auth")),
            base=request.get("base", self.defaults.get("base")),
            form=request.get("form"),
            raw=signing_in.raw_body(request),
        )

    def _query(self, stated: Any) -> Any:
        if not isinstance(stated, dict):
            return stated  # one expression that gives the whole object
        merged = {**self.defaults.get("query", {}), **stated}
        return {"object": merged} if merged else None

    def _lifecycle(self) -> dict[str, LifecycleStep]:
        stated = self.manifest.get("lifecycle", {})
        return {
            key: LifecycleStep(
                key=key,
                request=self._request(stated[key]["request"]),
                save={"object": stated[key].get("save", {})},
                gone=tuple(stated[key].get("gone", ())),
                errors=self._errors(stated[key]),
                envelope=self._envelope(stated[key]),
            )
            for key in LIFECYCLE_STEPS
            if key in stated
        }

    def _errors(self, part: dict[str, Any]) -> tuple[ErrorRule, ...]:
        return manifest_parts.rules(part.get("errors", [])) + manifest_parts.rules(
            self.manifest["http"].get("errors", [])
        )

    def _envelope(self, part: dict[str, Any]) -> Envelope:
        return manifest_parts.envelope(
            part.get("envelope", self.manifest["http"].get("envelope", {}))
        )

    def _action(self, key: str, one: dict[str, Any]) -> Action:
        at = f"/actions/{key}"
        one = declaring.inherited(one, self.defaults.get("action", {}))
        output = self._schema(one["output"], f"{at}/output")
        batch = declaring.batch(one.get("batch"), output, self._reads)
        idempotency = one.get("idempotency", self.defaults.get("idempotency"))
        if one["effect"] == "read":
            idempotency = one.get("idempotency")
        return Action(
            key=key,
            title=one["title"],
            summary=one.get("summary"),
            effect=one["effect"],
            input=self._schema(one["input"], f"{at}/input"),
            output=declaring.output_of(batch, output),
            request=self._request(one["request"]),
            idempotency_header=(idempotency or {}).get("header"),
            envelope=self._envelope(one),
            errors=self._errors(one),
            result=one.get("result"),
            sample=one["sample"],
            pages=declaring.pages(one.get("pages")),
            batch=batch,
            **declaring.repeating(idempotency or {}),
            **manifest_parts.known(one),
        )

    def _trigger(self, key: str, one: dict[str, Any]) -> Trigger:
        merged = {**self.defaults.get("trigger", {}), **one}
        if "poll" in one:
            # what others share is about their webhook; this one has none
            merged = {"dedupe": {"header": POLLED_ID}, "verify": {"scheme": "poll"}, **one}
        schema = merged.get("schema")
        return Trigger(
            key=key,
            title=one["title"],
            summary=one.get("summary"),
            event=one["event"],
            version=merged.get("version", 1),
            verify=merged.get("verify", {"scheme": "none"}),
            type_from=merged.get("type_from", {"fixed": one["event"]}),
            dedupe=merged.get("dedupe", {}),
            occurred_at=merged.get("occurred_at"),
            subject=merged.get("subject"),
            data=merged.get("data"),
            schema=self._schema(schema, f"/triggers/{key}/schema") if schema else None,
            sample=one.get("sample", {}),
            reconcile=self._poll(key, one["poll"])
            if "poll" in one
            else self._reconcile(key, merged.get("reconcile")),
            subscribe=None if "poll" in one else self._subscribe(key, one),
            fetch=declaring.fetch(merged.get("fetch"), self._reads, key),
            **manifest_parts.known(merged),
        )

    def _subscribe(self, key: str, one: dict[str, Any]) -> Subscribe | None:
        shared = self.defaults.get("trigger", {}).get("subscribe")
        own = one.get("subscribe", {} if shared else None)
        stated = None if own is None or own is False else {**(shared or {}), **own}
        readers = (self._request, self._schema, self._envelope, self._errors)
        return subscribing.read(key, stated, readers)

    def _poll(self, key: str, one: dict[str, Any]) -> Reconcile:
        """Return how an app is asked that sends nothing by itself: the look for objects."""
        stated = one["event"]
        event = {"headers": {POLLED_ID: stated["id"]}, "body": stated["body"]}
        look = {"kind": "objects", "keeps_hours": 24 * 7, **one, "event": event}
        least = one.get("least_seconds", 60)
        every = Every(
            seconds=max(one.get("every_seconds", 300), least),
            least_seconds=least,
            overlap_seconds=one.get("overlap_seconds", 600),
            window_seconds=one.get("window_seconds"),
        )
        plan = self._reconcile(key, look, part="poll")
        assert plan is not None
        return replace(plan, every=every, has_token="token" in one["list"])

    def _reconcile(
        self, key: str, one: dict[str, Any] | None, part: str = "reconcile"
    ) -> Reconcile | None:
        if one is None:
            return None
        schema = one.get("input", {"type": "object", "properties": {}})
        following = one["list"].get("next", {})
        of_next = "${header.link}" if "link" in following else following.get("value")
        page = {"items": one["list"]["items"]}
        if "token" in one["list"]:
            page["token"] = {"optional": one["list"]["token"]}
        return Reconcile(
            kind=one["kind"],
            input=self._schema(schema, f"/triggers/{key}/{part}/input"),
            request=self._request(one["list"]["request"]),
            page={"object": {**page, "next": {"optional": of_next}} if of_next else page},
            link=following.get("link"),
            item={"object": one["delivery"] if one["kind"] == "deliveries" else one["event"]},
            redeliver=self._request(one["redeliver"]["request"]) if "redeliver" in one else None,
            keeps_hours=one["keeps_hours"],
            errors=self._errors(one),
            envelope=self._envelope(one),
        )
