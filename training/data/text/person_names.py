"""Categories that look like names, addresses or numbers of persons: a bundle publishes its categories."""

import re
from collections.abc import Sequence

from batchproof.service.bundle.signature import Feature

COLUMN = re.compile(
    r"(?:^|_|\b)(?:(?:first|last|full|middle|maiden|given|family|sur|user|nick|customer|client|patient|employee|passenger|"
    r"student|person|member|owner|manager|doctor|physician|contact)_?(?:name|id|no|number|nr)|surname|username|e_?mail|phone|"
    r"mobile|telephone|ssn|passport|iban|licen[cs]e_?plate|social_?security)(?:$|_|\b|s\b)",
    re.IGNORECASE,
)
CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[A-Za-z]{2,}")
PHONE = re.compile(r"\+?[0-9(][0-9 ()/.-]{7,18}[0-9]")
SPAN = re.compile(r"([1-9][0-9]*)\s*[/-]\s*([1-9][0-9]*)")  # two numbers, as of years or of incomes
NAME = re.compile(r"(?:(?:Mr|Mrs|Ms|Dr|Prof)\.? )?[^\W\d_]+(?:[ ,.'-]+[^\W\d_]+\.?){1,4}")
TITLED = re.compile(r"\b(?:Mr|Mrs|Miss|Ms|Dr|Prof)\b\.? ")
LEAST_SHARE = 0.3  # of the categories that have a given name in them
LEAST = 3  # categories
GIVEN_NAMES = frozenset(
    {
        *("adam", "ahmed", "aisha", "alan", "albert", "alexander", "alexandra", "ali", "alice", "amanda", "amelia"),
        *("amy", "ana", "andrea", "andrew", "angela", "anita", "ann", "anna", "anne", "antonio", "arthur", "barbara"),
        *("benjamin", "betty", "brian", "carl", "carlos", "carol", "carolina", "caroline", "catherine", "charles"),
        *("charlotte", "chen", "chloe", "christian", "christina", "christine", "christopher", "clara", "daniel"),
        *("daniela", "david", "deborah", "diana", "diego", "donald", "dorothy", "edward", "elena", "elizabeth"),
        *("ella", "emily", "emma", "eric", "erik", "ethan", "eva", "evelyn", "fatima", "felix", "fernando"),
        *("frank", "franz", "gabriel", "george", "giulia", "grace", "hannah", "hans", "harold", "heinrich"),
        *("helen", "henry", "ian", "ines", "isabella", "ivan", "jack", "jacob", "james", "jan", "jane", "janet"),
        *("jason", "javier", "jean", "jennifer", "jessica", "joan", "johann", "john", "jonas", "jorge", "jose"),
        *("joseph", "joshua", "juan", "judith", "julia", "julian", "karen", "karl", "katharina", "katherine"),
        *("kenneth", "kevin", "kim", "klaus", "larry", "laura", "lauren", "leo", "leon", "li", "liam", "linda"),
        *("lisa", "logan", "louis", "lucas", "lucia", "lucy", "luis", "luke", "maria", "marie", "mario", "mark"),
        *("markus", "marta", "martha", "martin", "mary", "mason", "mateo", "matthew", "max", "megan", "mehmet"),
        *("mei", "mia", "michael", "michelle", "miguel", "mohamed", "mohammed", "nancy", "natalie", "nicholas"),
        *("nicole", "noah", "nora", "olga", "oliver", "olivia", "oscar", "pamela", "patricia", "patrick", "paul"),
        *("paula", "pavel", "pedro", "peter", "petra", "philip", "pierre", "priya", "rachel", "raj", "ralph"),
        *("ramon", "raymond", "rebecca", "richard", "robert", "roberto", "roger", "ronald", "rosa", "ruth"),
        *("ryan", "sabine", "samantha", "samuel", "sandra", "sara", "sarah", "scott", "sean", "sebastian", "sergei"),
        *("sofia", "sophia", "sophie", "stefan", "stephanie", "stephen", "steven", "susan", "svetlana", "teresa"),
        *("theresa", "thomas", "timothy", "tom", "tomas", "ursula", "valentina", "vera", "victor", "victoria"),
        *("viktor", "vincent", "walter", "wei", "werner", "william", "wolfgang", "yusuf", "zoe"),
    }
)


def looks_personal(feature: Feature) -> str | None:
    """Return what the categories of a feature look like, such as `names of persons`, or None."""
    categories = feature.categories or ()
    if feature.value_type == "boolean" or len(categories) < LEAST:
        return None
    if feature.value_type == "string":
        if _most(EMAIL, categories, categories):
            return "e-mail addresses"
        if _have_names(categories):
            return "names of persons"
    if COLUMN.search(CAMEL.sub("_", feature.name)):
        return "names or numbers of persons"
    if feature.value_type == "string" and _most(PHONE, [text for text in categories if not _is_span(text)], categories):
        return "telephone numbers"
    return None


def _most(pattern: re.Pattern[str], texts: Sequence[str], categories: Sequence[str]) -> bool:
    """Return whether so many of `texts` match that they are most of the categories."""
    return sum(pattern.fullmatch(text.strip()) is not None for text in texts) > len(categories) / 2


def _is_span(text: str) -> bool:
    """Return whether a text is a smaller number and a greater one, such as 2003-2004."""
    match = SPAN.fullmatch(text.strip())
    return match is not None and int(match[1]) < int(match[2])


def _have_names(categories: Sequence[str]) -> bool:
    """Whether most categories are a few words, and enough of them have a given name or a title among these."""
    if not _most(NAME, categories, categories):
        return False
    named = sum(
        not GIVEN_NAMES.isdisjoint(re.findall(r"[^\W\d_]+", category.lower())) or TITLED.search(category) is not None
        for category in categories
    )
    return named >= LEAST_SHARE * len(categories)
