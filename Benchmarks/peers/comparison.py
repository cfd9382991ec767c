"""Every case on every switch, the switches in turn: A B C D A B C D …"""

import json
import shutil
import tempfile

import generator
from machine import await_idle
from process import Failure
from report import figure

# A measurement is disturbed when the switch or the generator was without its CPU for more than this
# share of the time, because of another process or the host.
DISTURBED = 0.02


class Comparison:
    """Records have `case`, `switch`, `round`, and `value` with all that the generator said, or
    `failure`, a text."""

    def __init__(self, cases, switches, cpus, options):
        self.cases = cases
        self.switches = switches
        self.cpus = cpus
        self.rounds = options.rounds
        self.seconds = options.seconds
        self.attempts = options.attempts
        self.patience = options.patience
        self.records = []

    def run(self, output):
        """Measures; each record is written to the file `output` at once, as a line of JSON."""
        for case in self.cases:
            for number in range(1, self.rounds + 1):
                for switch in self.switches:
                    if not switch.measures(case):
                        continue
                    record = {"case": case.name, "switch": switch.name, "round": number}
                    record |= self._settled(case, switch, number)
                    self.records.append(record)
                    output.write(json.dumps(record, sort_keys=True) + "\n")
                    output.flush()
                    self._show(case, record)

    def _show(self, case, record):
        if "value" in record:
            text = f"{figure(record['value'])} {case.unit}"
        else:
            text = record["failure"]
        mark = "  (disturbed)" if self.is_disturbed(record) else ""
        print(
            f"{case.name:12} round {record['round']}  {record['switch']:12} {text}{mark}",
            flush=True,
        )

    @staticmethod
    def _lost_time(record):
        """Seconds in which the switch or the generator could have run and did not."""
        return max(record.get(name, 0) for name in ("switchWaited", "generatorWaited", "stolen"))

    def is_disturbed(self, record):
        # Where workers have to share a CPU they always wait.
        if record.get("shared"):
            return False
        return self._lost_time(record) > DISTURBED * self.seconds

    def _settled(self, case, switch, number):
        """The first measurement that nothing disturbed, or else the least disturbed."""
        records = []
        for _ in range(self.attempts):
            await_idle(self.patience)
            records.append(self._measure(case, switch, number))
            if not self.is_disturbed(records[-1]):
                return records[-1]
        return min(records, key=self._lost_time)

    def _measure(self, case, switch, number):
        folder = tempfile.mkdtemp(prefix="peers-")
        try:
            reason = switch.refuses(case)
            if reason:
                raise Failure(reason)
            sockets = switch.start(folder, case)
            result = generator.measure(case, sockets, self.seconds, self.cpus, folder, switch)
            value = self._value(case, switch, number, result)
            self._judge(switch, result)
            shared = case.workers > len(self.cpus.workers(case.workers, apart=True))
            return {"value": value, "shared": shared, **result}
        except Failure as failure:
            return {"failure": str(failure)}
        finally:
            switch.stop()
            shutil.rmtree(folder, ignore_errors=True)

    def _value(self, case, switch, number, result):
        value = case.figure(result)
        if not case.share_of:
            return value
        wanted = {"case": case.share_of, "switch": switch.name, "round": number}
        for record in self.records:
            if wanted.items() <= record.items() and "value" in record:
                return 100 * value / record["value"]
        raise Failure(f"is a share of the case {case.share_of}, which was not measured")

    def _judge(self, switch, result):
        """Fails when frames were damaged or nobody knows where they are."""
        if not result["receivedFrames"]:
            raise Failure("no frame came through")
        found = result.get("verification")
        if found and not switch.rewrites and (found["corrupt"] or found["disordered"]):
            raise Failure(
                f"{found['corrupt']} frames were corrupt and {found['disordered']} out of order"
            )
        missing = switch.unaccounted()
        if missing:
            raise Failure(f"{missing} frames are unaccounted for")
