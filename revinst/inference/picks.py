"""How many texts are written for one, and how one of them is picked; known before anything heavy is imported."""

from dataclasses import dataclass

from revinst.config.words import PICKS, UTILITIES, check_word
from revinst.errors import UserError

# Chosen on validation rows of Dolly (dev/LOG.md), the temperature among 0.5, 0.7, 0.85 and 1. There the consensus of 4
# samples has no more ROUGE-L than the greedy text, that of 8 has 0.012 more, of 16 0.020 and of 32 0.029.
TEMPERATURE = 0.7
NUM_SAMPLES = {"cuda": 32, "cpu": 8}
TAKEN = {  # what each pick takes, for people
    "greedy": "the greedy text",
    "consensus": "their consensus",
    "likelihood": "the likeliest a token",
    "round_trip": "the one that helps the base most",
    "": "the first",
}


@dataclass(frozen=True, slots=True)
class PickSettings:
    """How many texts are written for one, and which is taken.

    Attributes:
        samples: 1: one text, and nothing to pick. More: so many, each sampled with a seed of its own.
        pick: greedy: the greedy text, which is written beside the samples. consensus: the sample that is most like all
            others. likelihood: the one with the highest log p a token. round_trip: the one given which the base finds
            the text likeliest. Empty: the first sample.
        utility: what `consensus` takes for likeness.
    """

    samples: int = 1
    pick: str = "greedy"
    utility: str = "rougeL"

    def __post_init__(self):
        if self.samples < 1:
            raise UserError(f"--samples {self.samples}: must be at least 1")
        check_word("--utility", self.utility, UTILITIES)
        if self.pick:
            check_word("--pick", self.pick, PICKS)

    @property
    def takes_greedy(self) -> bool:
        """The greedy text, which is written beside the samples."""
        return self.samples > 1 and self.pick == "greedy"

    def check(self, temperature: float) -> None:
        """Raises UserError for what means nothing."""
        if self.samples > 1 and not temperature:
            raise UserError(f"--samples {self.samples}: greedy samples are all the same; give --temperature, e.g. 0.7")
        if self.samples == 1 and self.pick not in ("greedy", ""):
            raise UserError(f"--pick {self.pick}: there is nothing to pick of one; give --samples of 2 or more")

    def describe(self) -> dict[str, int | str]:
        """What predictions and votes depend on; nothing for one text."""
        if self.samples == 1:
            return {}
        return {"samples": self.samples} | ({"pick": self.pick, "utility": self.utility} if self.pick else {})

    def say(self, temperature: float, device: str) -> str:
        """For people, what will be done and what more samples would cost."""
        if self.samples == 1:
            return f"one {'sample' if temperature else 'greedy text'} each"
        most = NUM_SAMPLES["cuda"]
        said = f"{self.samples} each at temperature {temperature:g}, {TAKEN[self.pick]} is taken"
        if device != "cuda" and self.samples < most:
            longer = f"{most / self.samples:.2g} times as long on this {device.upper()}"
            said += f"; {most}, a GPU's default, would take {longer}"
        return said + (" (--pick greedy: one text each)" if self.pick in PICKS[1:] else "")


ONE = PickSettings()


def choose_picks(
    samples: int | None, pick: str | None, utility: str, temperature: float | None, default: str, device: str
) -> tuple[PickSettings, float]:
    """How to pick and at which temperature, where not all was said (None). default: the pick; "": none.

    One text, or a temperature of 0, leaves nothing to pick. Raises UserError for what means nothing.
    """
    if not default and pick:
        raise UserError(f"--pick {pick}: this run writes texts; only instructions are picked")
    if pick == "greedy" and (samples or 1) == 1 and temperature:
        raise UserError(f"--temperature {temperature:g}: the greedy text has none; leave out --pick to sample one")
    if not default:
        pick = ""
    elif pick is None:
        pick = "greedy" if samples == 1 or temperature == 0 else default
    if samples is None:
        samples = 1 if pick in ("greedy", "") else NUM_SAMPLES.get(device, NUM_SAMPLES["cpu"])
    if temperature is None:
        temperature = TEMPERATURE if samples > 1 and pick else 0.0
    picks = PickSettings(samples, pick, utility)
    picks.check(temperature)
    return picks, temperature
