"""One run as an inline SVG: states, probes, requests in flight, lives of processes, faults; on one time axis."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape

from twisted_rr.draintest import records
from twisted_rr.draintest.records import Evidence, Probe

_WIDTH, _LEFT, _RIGHT = 1080, 118, 14
_LANE, _GAP = 15, 5
_STATES = {
    "booting": "#8a97a5", "starting": "#6d7b89", "running": "#1a7f4b", "drained": "#8a6d1f", "draining:announce": "#c77700",
    "draining:finish": "#b3541e", "draining:force": "#a32020", "stopping": "#6b4a8f", "stuck": "#c62f2f",
}  # fmt: skip
_BAD_ENDS = {
    records.CUT: "bad",
    records.RESET: "bad",
    records.HUNG: "bad",
    records.REFUSED: "na",
    records.EMPTY: "na",
}

Scale = Callable[[float], float]


def timeline(evidence: Evidence) -> str:
    """The picture; empty for a run without a signal."""
    if evidence.signalled is None or evidence.exited is None:
        return ""
    return _Picture(evidence).draw()


class _Picture:
    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        assert evidence.signalled is not None and evidence.exited is not None
        self._zero = evidence.signalled
        self._begin = max(evidence.began, min(self._zero, evidence.ready or self._zero) - 0.4)
        # The start is the same in every run: the picture begins where the run does.
        self._end = evidence.exited + 0.25
        self._y = 34.0
        self._parts: list[str] = []

    def _x(self, at: float) -> float:
        width = _WIDTH - _LEFT - _RIGHT
        inside = min(max(at, self._begin), self._end)
        return _LEFT + width * (inside - self._begin) / (self._end - self._begin)

    def draw(self) -> str:
        self._states()
        for channel in ("ready", "health", "startup"):
            self._probes(channel)
        self._connects()
        self._requests()
        self._lives()
        height = self._y + 6
        behind = "".join([*self._grid(height), *self._holds(height)])
        marks = "".join(self._marks(height))
        return (
            f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" role="img" '
            f'aria-label="timeline of {escape(self._evidence.name)}">{behind}{"".join(self._parts)}{marks}</svg>'
        )

    # ------------------------------------------------------------------ axis

    def _grid(self, height: float) -> Iterator[str]:
        step = next(
            size
            for size in (0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 3600)
            if (self._end - self._begin) / size <= 14
        )
        number = int((self._begin - self._zero) / step)
        while self._zero + number * step <= self._end:
            x = self._x(self._zero + number * step)
            if self._zero + number * step >= self._begin:
                yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="30" y2="{height:.0f}"/>'
                yield f'<text class="axis" x="{x:.1f}" y="26" text-anchor="middle">{number * step:g}</text>'
            number += 1

    def _holds(self, height: float) -> Iterator[str]:
        for begun, over in self._evidence.holds:
            yield self._bar(begun, over, 30, height - 30, "held", "the server is held")

    def _marks(self, height: float) -> Iterator[str]:
        yield self._line(self._zero, height, "signal")
        yield f'<text x="{self._x(self._zero):.1f}" y="12" text-anchor="middle">SIGTERM</text>'
        deadline = self._zero + self._evidence.terms.cut
        if deadline < self._end:
            yield self._line(deadline, height, "deadline")
            yield f'<text class="soft" x="{self._x(deadline):.1f}" y="12" text-anchor="middle">deadline</text>'
        exited = self._evidence.exited
        assert exited is not None
        yield self._line(exited, height, "signal")
        yield f'<text x="{self._x(exited):.1f}" y="12" text-anchor="end">exit {self._evidence.code}</text>'
        last = -1e9
        for event in self._evidence.events:
            if event.kind == "fault":
                x = self._x(event.at)
                yield self._line(event.at, height, "mark")
                # Faults of one moment share its label's place: the first is written, all are in the titles.
                if x - last > 34:
                    yield f'<text class="marktext" x="{x + 3:.1f}" y="{height - 3:.0f}"><title>{escape(event.text)}</title>{escape(event.text.split()[0])}</text>'
                    last = x

    def _line(self, at: float, height: float, name: str) -> str:
        x = self._x(at)
        return f'<line class="{name}" x1="{x:.1f}" x2="{x:.1f}" y1="16" y2="{height:.0f}"/>'

    # ----------------------------------------------------------------- lanes

    def _lane(self, name: str, height: float = _LANE) -> float:
        y = self._y
        self._parts.append(
            f'<rect class="lane" x="{_LEFT}" y="{y}" width="{_WIDTH - _LEFT - _RIGHT}" height="{height}" opacity=".6"/>'
        )
        self._parts.append(
            f'<text class="soft" x="{_LEFT - 8}" y="{y + height / 2 + 4}" text-anchor="end">{escape(name)}</text>'
        )
        self._y += height + _GAP
        return y

    def _bar(
        self, begin: float, end: float, y: float, height: float, name: str, title: str = "", fill: str = ""
    ) -> str:
        x = self._x(begin)
        width = max(0.8, self._x(end) - x)
        colour = f' fill="{fill}"' if fill else ""
        return (
            f'<rect class="{name}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"{colour}>'
            f"<title>{escape(title)}</title></rect>"
        )

    def _states(self) -> None:
        y = self._lane("lifecycle", 18)
        states = [event for event in self._evidence.events if event.kind == "state"]
        for number, event in enumerate(states):
            end = states[number + 1].at if number + 1 < len(states) else self._evidence.exited or event.at
            if end <= self._begin:
                continue
            self._parts.append(
                self._bar(event.at, end, y, 18, "", event.text, _STATES.get(event.text, "#6d7b89"))
            )
            x, width = self._x(event.at), self._x(end) - self._x(event.at)
            if width > 7 * len(event.text):
                self._parts.append(
                    f'<text class="state" x="{x + width / 2:.1f}" y="{y + 13}" text-anchor="middle">{escape(event.text)}</text>'
                )
            elif width > 7 * len(event.text.partition(":")[2] or "?" * 99):
                short = event.text.partition(":")[2]
                self._parts.append(
                    f'<text class="state" x="{x + width / 2:.1f}" y="{y + 13}" text-anchor="middle">{escape(short)}</text>'
                )

    def _probes(self, channel: str) -> None:
        y = self._lane(f"/{channel}")
        for probe in self._evidence.channel(channel):
            if probe.ended >= self._begin and probe.at <= self._end:
                name = self._colour(probe)
                title = f"{probe.code or 'refused'} at {probe.at - self._zero:+.3f} s in {1000 * probe.took:.1f} ms {probe.state}"
                self._parts.append(
                    self._bar(probe.at, max(probe.ended, probe.at + 0.004), y, _LANE, name, title)
                )

    def _colour(self, probe: Probe) -> str:
        if 200 <= probe.code < 300:
            return "ok"
        if probe.code == 0:
            return "na"
        return "warn" if probe.code == 503 and probe.channel in ("ready", "startup") else "bad"

    def _connects(self) -> None:
        y = self._lane("connect")
        names = {"accepted": "ok", "refused": "na"}
        for each in self._evidence.connects:
            if self._begin <= each.at <= self._end:
                title = f"{each.outcome} at {each.at - self._zero:+.3f} s"
                self._parts.append(
                    self._bar(each.at, each.at + 0.008, y, _LANE, names.get(each.outcome, "bad"), title)
                )

    def _requests(self) -> None:
        """How many are in flight, as steps; below, how those ended that did not end well."""
        height = 46.0
        y = self._lane("in flight", height)
        steps: list[tuple[float, int]] = []
        for line in self._evidence.exchanges:
            if line.asked is not None and line.outcome != records.REFUSED:
                steps += [(line.asked, 1), (line.ended or self._end, -1)]
        steps.sort()
        count, top, points = 0, 1, []
        for at, change in steps:
            points.append((at, count))
            count += change
            points.append((at, count))
            if at >= self._begin:
                top = max(top, count)
        drawn = [
            f"{self._x(at):.1f},{y + height - height * min(count, top) / top:.1f}"
            for at, count in points
            if at >= self._begin
        ]
        if drawn:
            first, last = drawn[0].split(",")[0], drawn[-1].split(",")[0]
            self._parts.append(
                f'<polygon class="load" points="{first},{y + height} {" ".join(drawn)} {last},{y + height}"/>'
            )
        self._parts.append(f'<text class="axis" x="{_LEFT + 3}" y="{y + 10}">{top}</text>')
        y = self._lane("ended badly", 10)
        for line in self._evidence.exchanges:
            name = _BAD_ENDS.get(line.outcome, "warn" if line.status >= 500 else "")
            if name and line.ended is not None and self._begin <= line.ended <= self._end:
                title = (
                    f"{line.client}: {line.outcome} {line.status or ''} at {line.ended - self._zero:+.3f} s"
                )
                self._parts.append(self._bar(line.ended, line.ended + 0.006, y, 10, name, title))

    def _lives(self) -> None:
        lives = sorted(self._evidence.lives.values(), key=lambda life: life.born)
        shown = [life for life in lives if (life.gone or self._end) > self._begin][:24]
        for life in shown:
            y = self._lane(f"process {life.pid}", 12)
            self._y -= _GAP - 2
            end = life.gone or self._evidence.exited or self._end
            self._parts.append(self._bar(life.born, end, y, 12, "worker", f"{end - self._begin:.2f} s"))
            if life.zombie_since is not None:
                self._parts.append(
                    self._bar(life.zombie_since, life.zombie_until or end, y, 12, "bad", "a zombie")
                )
        self._y += 16
