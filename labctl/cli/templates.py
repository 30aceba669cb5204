"""What `labctl new protocol` writes: a whole protocol, short enough to read, and its test."""

PROTOCOL = '''"""Rest, then a spectrum: the resistance of a cell at the laboratory's temperature."""

from pydantic import Field

from labctl.instruments.capabilities import CanEis, CanOcp
from labctl.instruments.techniques import Eis, Ocp
from labctl.quantities import DurationS, FrequencyHz
from labctl.run.protocol import Parameters, Protocol, step


class NameParameters(Parameters):
    """Parameters of `NAME`.

    Attributes:
        rest: at open circuit before the spectrum.
        frequency_end: lowest frequency of the spectrum.
    """

    rest: DurationS = Field(default=60.0, ge=1)
    frequency_end: FrequencyHz = Field(default=10.0, gt=0)


def techniques(parameters):
    """Return what is measured, in its order, by the key of the step."""
    return {
        "rest": Ocp(duration_s=parameters.rest),
        "spectrum": Eis(
            frequency_start_hz=200e3,
            frequency_end_hz=parameters.frequency_end,
            n_points=30,
            amplitude_v_rms=0.01,
        ),
    }


def plan(parameters, sample):
    """Return every step that will be taken: checked before an instrument is touched."""
    return [step(key, technique) for key, technique in techniques(parameters).items()]


async def NAME(run, parameters):
    """Take the steps and record what they say."""
    planned = techniques(parameters)
    rest = await run.ocp(key="rest", parameters=planned["rest"])
    spectrum = await run.eis(key="spectrum", parameters=planned["spectrum"])
    await run.record(
        "result",
        {
            "potential_v": float(rest.column("potential_v")[-1]),
            "z_real_lowest_frequency_ohm": float(spectrum.column("z_real_ohm")[-1]),
            "temperature_k": spectrum.temperature_k,
            "warnings": [],
        },
    )


PROTOCOL = Protocol(
    name="NAME",
    script=NAME,
    parameters=NameParameters,
    plan=plan,
    capabilities=(CanOcp, CanEis),
    summary="rest, then a spectrum",
)
'''

TEST = '''"""NAME, run on simulated instruments in virtual time."""

from pathlib import Path

from labctl.testing import simulate


def test_it_measures_every_point_and_records_a_result(tmp_path):
    run = simulate(Path(__file__).with_name("NAME.py"), folder=tmp_path)
    assert run.summary.outcome == "completed"
    (result,) = run.events("result")
    assert result["data"]["z_real_lowest_frequency_ohm"] > 0
    assert len(run.frames("eis")) == 30
'''
