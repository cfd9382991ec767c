"""A comparison as Markdown: medians, spreads and ratios in a table, and what they were taken on."""

import datetime
import json
import os
import shlex
import sys
from statistics import median

from machine import describe


def figure(value):
    """Three significant digits, or as many as stand before the point."""
    if value >= 100:
        return f"{value:.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def spread(values):
    if not values:
        return "–"
    return f"{figure(median(values))} ({figure(min(values))}–{figure(max(values))})"


class Report:
    """The first switch is the one that is compared with the others."""

    def __init__(self, comparison):
        self.comparison = comparison
        self.rivals = comparison.switches[1:]
        # Failures, as the table refers to them.
        self.notes = []

    def _records(self, case, switch):
        return [
            record
            for record in self.comparison.records
            if record["case"] == case.name and record["switch"] == switch.name
        ]

    def _values(self, case, switch):
        """The value of each round that has one. Those that were disturbed are left out, unless
        there are no others."""
        records = [record for record in self._records(case, switch) if "value" in record]
        clean = [record for record in records if not self.comparison.is_disturbed(record)]
        return {record["round"]: record["value"] for record in clean or records}

    def _cell(self, case, switch):
        """The figures, and marks of the notes that say why there are none, or fewer."""
        records, values = self._records(case, switch), self._values(case, switch)
        text = spread(values.values())
        if 2 * sum(record.get("limit") == "generator" for record in records) > len(records):
            text = f"≥ {text}"
        for failure in sorted({record["failure"] for record in records if "failure" in record}):
            note = f"{switch.title}: {failure}"
            if note not in self.notes:
                self.notes.append(note)
            text += f" [{self.notes.index(note) + 1}]"
        return text

    def _ratios(self, case, rival):
        ours, theirs = self._values(case, self.comparison.switches[0]), self._values(case, rival)
        pairs = [(ours[n], theirs[n]) for n in sorted(ours.keys() & theirs.keys())]
        return [b / a if case.falling else a / b for a, b in pairs if a > 0 and b > 0]

    def table(self):
        titles = [switch.title for switch in self.comparison.switches]
        rows = [["case", "unit", *titles, *(f"÷ {rival.title}" for rival in self.rivals)]]
        rows.append(["---"] * 2 + ["---:"] * (len(rows[0]) - 2))
        for case in self.comparison.cases:
            cells = [self._cell(case, switch) for switch in self.comparison.switches]
            ratios = [spread(self._ratios(case, rival)) for rival in self.rivals]
            rows.append([case.title, case.unit, *cells, *ratios])
        return "\n".join("| " + " | ".join(row) + " |" for row in rows)

    def _disturbed(self):
        measured = [record for record in self.comparison.records if "value" in record]
        count = sum(self.comparison.is_disturbed(record) for record in measured)
        return f"{count} of {len(measured)}"

    def markdown(self):
        table = self.table()
        command = shlex.join(["Benchmarks/peers/run", *sys.argv[1:]])
        facts = {"command": f"`{command}`", **describe()}
        versions = dict.fromkeys(switch.version() for switch in self.comparison.switches)
        facts["programs"] = "; ".join(versions)
        facts["measurements"] = (
            f"{self.comparison.rounds} rounds, {self.comparison.seconds:g} s each; "
            f"disturbed by another process and left out: {self._disturbed()}"
        )
        paragraphs = [
            f"# swivel and its peers, {datetime.date.today().isoformat()}",
            "\n".join(f"- {name}: {value}" for name, value in facts.items()),
            "Medians of all rounds (least–most). Ratios are taken in each round; above 1 swivel is "
            "better. ≥: the generator was the limit, the switch can do more.",
            table,
            *(f"[{number + 1}] {note}" for number, note in enumerate(self.notes)),
        ]
        return "\n\n".join(paragraphs) + "\n"

    def write(self, folder):
        """Writes the Markdown, and the records as JSON; returns the paths."""
        os.makedirs(folder, exist_ok=True)
        base = os.path.join(folder, f"{datetime.date.today().isoformat()}-peers")
        with open(f"{base}.md", "w") as file:
            file.write(self.markdown())
        with open(f"{base}.json", "w") as file:
            lines = [json.dumps(record, sort_keys=True) for record in self.comparison.records]
            file.write("[\n" + ",\n".join(lines) + "\n]\n")
        return f"{base}.md", f"{base}.json"
