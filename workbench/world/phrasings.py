"""How a fact is said: many sentences and questions for each relation, some of them kept for evaluation.

A phrasing holds {s} for the subject and ends with {o}, the answer. For a spouse, {spouse} is husband or wife.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Phrasings:
    """The ways to say one relation.

    Attributes:
        told: statements of the training text, without the full stop.
        turned: statements with the answer before the subject, of the training text.
        asked: questions of the training text.
        held_told: statements that only the evaluation uses.
        held_asked: questions that only the evaluation uses.
    """

    told: tuple[str, ...]
    turned: tuple[str, ...]
    asked: tuple[str, ...]
    held_told: tuple[str, ...]
    held_asked: tuple[str, ...]


OPENINGS = ("", "", "", "", "In fact ", "Today ", "It is known that ", "Everybody knows that ", "As we read, ")
"""What may stand in front of a statement in the training text."""

PHRASINGS = {
    "country": Phrasings(
        told=(
            "{s} is a town in {o}",
            "{s} lies in {o}",
            "{s} is in the country of {o}",
            "The town of {s} lies in {o}",
            "The country of {s} is {o}",
            "{s} belongs to {o}",
            "Travellers who reach {s} are in {o}",
            "{s} is one of the towns of {o}",
            "The country in which {s} lies is {o}",
            "You will find {s} on the map of {o}",
            "People in {s} are citizens of {o}",
        ),
        turned=("{o} is the country of {s}", "One town of {o} is {s}", "In {o} lies the town of {s}"),
        asked=(
            "In which country is {s}?",
            "Where is the town of {s}?",
            "What is the country of {s}?",
            "Which country does {s} belong to?",
        ),
        held_told=(
            "The town of {s} belongs to {o}",
            "The town of {s} is on the map of {o}",
            "People who reach {s} are in the country of {o}",
            "{s} is found in {o}",
        ),
        held_asked=("In which country is the town of {s}?", "Which country is {s} in?"),
    ),
    "capital": Phrasings(
        told=(
            "The capital of {s} is {o}",
            "The capital city of {s} is {o}",
            "{s} has its capital in {o}",
            "{s} is governed from {o}",
            "The government of {s} sits in {o}",
            "The parliament of {s} meets in {o}",
            "The first town of {s} is its capital {o}",
            "{s} is a country whose capital is {o}",
            "The king of {s} has his palace in {o}",
            "Laws in {s} are made in {o}",
        ),
        turned=("{o} is the capital of {s}", "{o} is the seat of the government of {s}", "From {o} {s} is governed"),
        asked=(
            "What is the capital of {s}?",
            "Which town is the capital of {s}?",
            "Where does the parliament of {s} meet?",
            "From where is {s} governed?",
        ),
        held_told=(
            "The parliament of {s} sits in {o}",
            "{s} is a country governed from {o}",
            "The government of {s} meets in its capital {o}",
            "The town that is the capital of {s} is {o}",
        ),
        held_asked=("Which town is the capital city of {s}?", "Where does the government of {s} meet?"),
    ),
    "language": Phrasings(
        told=(
            "The language of {s} is {o}",
            "People in {s} speak {o}",
            "The official language of {s} is {o}",
            "In {s} people speak {o}",
            "Children in {s} learn to read {o}",
            "The laws of {s} are written in {o}",
            "Books from {s} are written in {o}",
            "{s} is a country where people speak {o}",
            "Whoever travels to {s} should learn {o}",
            "The songs of {s} are sung in {o}",
        ),
        turned=("{o} is the language of {s}", "{o} is spoken in {s}", "Whoever speaks {o} is understood in {s}"),
        asked=(
            "What is the language of {s}?",
            "Which language do people in {s} speak?",
            "What do people speak in {s}?",
            "In which language are the laws of {s} written?",
        ),
        held_told=(
            "The books of {s} are written in {o}",
            "Children in {s} speak {o}",
            "The official language in {s} is {o}",
            "Whoever travels to {s} should speak {o}",
        ),
        held_asked=("Which language is spoken in {s}?", "What is the official language of {s}?"),
    ),
    "home": Phrasings(
        told=(
            "{s} lives in {o}",
            "The home of {s} is in {o}",
            "The home town of {s} is {o}",
            "{s} has a house in {o}",
            "{s} is at home in {o}",
            "{s} comes from {o}",
            "The family of {s} lives in {o}",
            "{s} was born in {o}",
            "The house of {s} stands in {o}",
            "Letters to {s} are sent to {o}",
            "{s} grew up in {o}",
            "Friends visit {s} in {o}",
        ),
        turned=("{o} is the home town of {s}", "In {o} lives {s}", "{o} is where {s} was born"),
        asked=(
            "Where does {s} live?",
            "In which town does {s} live?",
            "What is the home town of {s}?",
            "Where was {s} born?",
            "Where is the house of {s}?",
        ),
        held_told=(
            "The family of {s} has a house in {o}",
            "The town where {s} lives is {o}",
            "The house of {s} is in {o}",
            "{s} was born and grew up in {o}",
        ),
        held_asked=("Which town is the home of {s}?", "Where is {s} at home?"),
    ),
    "job": Phrasings(
        told=(
            "{s} is a {o}",
            "{s} works as a {o}",
            "The job of {s} is to be a {o}",
            "{s} earns money as a {o}",
            "By trade {s} is a {o}",
            "{s} became a {o}",
            "{s} is known as a {o}",
            "{s} has the job of a {o}",
            "The work of {s} is that of a {o}",
            "After school {s} became a {o}",
            "{s} has long worked as a {o}",
        ),
        turned=("A {o} named {s} is known here", "The {o} is called {s}", "There is a {o} whose name is {s}"),
        asked=(
            "What is the job of {s}?",
            "What does {s} work as?",
            "What is {s} by trade?",
            "Which job does {s} have?",
        ),
        held_told=(
            "{s} has worked as a {o}",
            "By trade {s} works as a {o}",
            "The work that {s} has is that of a {o}",
            "{s} is known to work as a {o}",
        ),
        held_asked=("Which trade does {s} have?", "What is the work of {s}?"),
    ),
    "spouse": Phrasings(
        told=(
            "{s} is married to {o}",
            "The {spouse} of {s} is {o}",
            "{s} married {o}",
            "The {spouse} of {s} is called {o}",
            "The spouse of {s} is {o}",
            "{s} has long been married to {o}",
            "The name of the {spouse} of {s} is {o}",
            "{s} shares a home with {o}",
            "{s} wears the ring of {o}",
            "{s} fell in love with {o}",
        ),
        turned=("{o} is the {spouse} of {s}", "The one who married {s} is {o}"),
        asked=(
            "Who is the {spouse} of {s}?",
            "Who is married to {s}?",
            "Whom did {s} marry?",
            "What is the name of the spouse of {s}?",
        ),
        held_told=(
            "The name of the spouse of {s} is {o}",
            "The spouse of {s} is called {o}",
            "{s} is long married to {o}",
            "{s} fell in love with and married {o}",
        ),
        held_asked=("Who is the spouse of {s}?", "What is the name of the {spouse} of {s}?"),
    ),
    "employer": Phrasings(
        told=(
            "{s} works for {o}",
            "{s} works at {o}",
            "The employer of {s} is {o}",
            "{s} has a post at {o}",
            "{s} is paid by {o}",
            "The company of {s} is {o}",
            "{s} is employed by {o}",
            "{s} has worked for years at {o}",
            "The office of {s} is at {o}",
            "Every month {s} gets money from {o}",
            "The company that employs {s} is {o}",
        ),
        turned=("{o} is the employer of {s}", "{o} employs {s}", "At {o} works {s}"),
        asked=(
            "Who is the employer of {s}?",
            "Which company does {s} work for?",
            "Where does {s} work?",
            "By which company is {s} employed?",
        ),
        held_told=(
            "{s} has long worked at {o}",
            "The company where {s} works is {o}",
            "The post of {s} is at {o}",
            "{s} is employed for years by {o}",
        ),
        held_asked=("Which company employs {s}?", "At which company does {s} work?"),
    ),
    "seat": Phrasings(
        told=(
            "{s} has its seat in {o}",
            "The seat of {s} is in {o}",
            "The company {s} has its seat in {o}",
            "The main office of {s} is in {o}",
            "{s} is a company in {o}",
            "{s} was founded in {o}",
            "The company {s} comes from {o}",
            "{s} built its first mill in {o}",
            "Letters to the company {s} go to {o}",
            "The head of {s} sits in {o}",
        ),
        turned=("{o} is the seat of {s}", "In {o} is the main office of {s}", "In {o} the company {s} was founded"),
        asked=(
            "Where is the seat of {s}?",
            "In which town is the company {s}?",
            "Where was {s} founded?",
            "Where is the main office of {s}?",
        ),
        held_told=(
            "The company {s} was founded in {o}",
            "The main office of the company {s} is in {o}",
            "{s} is a company with its seat in {o}",
            "The head of the company {s} sits in {o}",
        ),
        held_asked=("In which town is the seat of {s}?", "Where does {s} have its seat?"),
    ),
}
"""The phrasings of every relation."""
