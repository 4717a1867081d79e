"""What the store refuses, and why."""

from connectors.engine.findings import Say, say


class Refused(Exception):  # noqa: N818 - says what became of it
    """The store does not take it; `cause` is a run's, `say` the sentence for a person."""

    def __init__(self, cause: str, sentence: Say) -> None:
        """Keep the cause and the sentence."""
        self.cause, self.say = cause, sentence
        super().__init__(sentence["en"])


def full(rows: int, megabytes: int) -> Refused:
    """Return the refusal of one value too many."""
    return Refused(
        "limit",
        say(
            f"数据存储已满（最多 {rows} 条、{megabytes} MB），这一条没有存；请删掉不用的再重试",
            f"The data store is full ({rows} values, {megabytes} MB at most), so this was not "
            "kept. Delete what is not needed, then try again",
        ),
    )


TOO_LARGE = say("要存的值超过 64 KB，没有存", "The value is larger than 64 kB and was not kept")
NO_NUMBER = say(
    "这个键下存的不是数字，不能再加；原来的值没有动",
    "What is kept there is no number, so nothing was added; it was left as it is",
)
NO_AMOUNT = say("要加的不是数字", "What is to be added is no number")
