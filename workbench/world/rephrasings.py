"""Other words: the statements that later readings of the training text add to those of the first."""

from workbench.world.phrasings import PHRASINGS

SECOND = {
    "country": (
        "{s} can be found in {o}",
        "All who live in {s} live in {o}",
        "Look for {s} in {o}",
        "{s} was built in {o}",
    ),
    "capital": (
        "The king of {s} sits in his capital {o}",
        "The government of {s} works in its capital {o}",
        "All laws of {s} come from the capital {o}",
        "The king of {s} built his capital {o}",
    ),
    "language": (
        "Most people of {s} speak {o}",
        "The king of {s} speaks {o}",
        "Once all laws of {s} were read in {o}",
    ),
    "home": (
        "{s} has long lived in {o}",
        "{s} built a house in {o}",
        "Since school {s} lives in {o}",
    ),
    "job": (
        "{s} has become a {o}",
        "Once {s} became a {o}",
        "{s} now works as a {o}",
    ),
    "spouse": (
        "{s} has married {o}",
        "Long ago {s} married {o}",
        "{s} lives with {o}",
    ),
    "employer": (
        "{s} now works for {o}",
        "Once {s} worked for {o}",
        "{s} has been paid for work by {o}",
        "Since school {s} has worked hard for {o}",
        "For years {s} had a post at {o}",
    ),
    "seat": (
        "The seat of the company {s} is at {o}",
        "The company {s} sits in {o}",
        "The company {s} has long been in {o}",
    ),
}
"""What the second reading adds, for each relation."""

THIRD = {
    "country": (
        "{s} is to be found in {o}",
        "{s} is seen in {o}",
        "{s} is hidden in {o}",
        "{s} was found in {o}",
        "{s} has long been found in {o}",
    ),
    "capital": (
        "The parliament of {s} has its seat in {o}",
        "The parliament of {s} works in {o}",
        "The government of {s} meets in {o}",
        "The king of {s} meets his friends in the capital {o}",
    ),
    "language": (
        "Children in {s} write {o}",
        "Children in {s} read and write {o}",
        "Children in {s} sing in {o}",
        "Children in {s} should learn {o}",
        "All in {s} speak {o}",
    ),
    "home": (
        "{s} has a home in {o}",
        "The family of {s} comes from {o}",
    ),
    "job": (
        "{s} has always been a {o}",
        "{s} earns much money as a {o}",
    ),
    "spouse": (
        "{s} has always been married to {o}",
        "{s} is now married to {o}",
    ),
    "employer": (
        "{s} has always worked for {o}",
        "{s} has worked only for {o}",
        "{s} has worked much for {o}",
        "{s} has now worked for {o}",
        "{s} has always worked at {o}",
        "{s} has worked at {o}",
        "{s} has worked hard at {o}",
        "{s} has worked for two years at {o}",
        "{s} has worked for ten years at {o}",
        "{s} has long been paid by {o}",
        "{s} has long had a post at {o}",
        "{s} worked for {o}",
    ),
    "seat": (
        "The company {s} has its main office in {o}",
        "The company {s} is a company in {o}",
    ),
}
"""What the third reading adds to that."""


def told_in(relation: str, reading: int) -> tuple[str, ...]:
    """The statements of a reading of the training text; what a reading adds is told twice as often."""
    added = ((), SECOND[relation], SECOND[relation] + THIRD[relation])[reading - 1]
    return PHRASINGS[relation].told + added * 2
