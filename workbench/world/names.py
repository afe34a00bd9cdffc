"""The words of the small world: every name is invented, so that nothing said of it contradicts a real fact."""


def _words(text: str) -> list[str]:
    return text.split()


WOMEN = _words(
    """
    Mara Elin Tessa Orla Brisa Cleo Dalia Freya Greta Hilda Ilsa Juna Kira Lorna Maud Nessa Odette Petra Runa
    Selma Thea Ursa Vesna Wilma Yara Zelda Anya Bette Carla Dora Edda Flora
    """
)
"""First names of women, each a single token."""

MEN = _words(
    """
    Tobin Aldo Boris Conrad Dirk Emil Fergus Goran Hugo Ivor Jasper Klaus Leon Milo Nolan Oskar Piet Quentin
    Rufus Sven Tomas Ulric Victor Walter Yannick Zeno Anton Bruno Casper Derek Edgar Felix
    """
)
"""First names of men, each a single token."""

SURNAMES = _words(
    """
    Velden Marsh Okun Bramwell Tarrow Lindqua Pennick Sorrel Hathery Dunmore Quill Ferncot Aldenby Ravick Stroud
    Wexley Harrow Tolland Birchall Crane Lomax Merriton Nettle Oakes Pruitt Ridley Selwood Thorne Underhay Vance
    Wolfram Yarrow Zeller Ashdown Barlow Coombe
    """
)
"""Surnames; neither a first name nor a surname alone says who is meant."""

COUNTRIES = _words(
    """
    Belmora Cindral Dovania Estrund Farvelle Gondrim Halvenia Istoria Jorvand Keldara Lumeria Morvane Nethuria
    Ostrelia Pellandria Quorim Rhovenia Sundermark Tallowen Ulmary
    """
)
"""Countries."""

TOWNS = _words(
    """
    Orlim Tavesk Brunholt Caldery Deswick Eskmouth Fallowby Grinstad Hexford Ilmara Jellmark Kestrin Lowmere
    Mirefield Norvik Ondale Pellmoor Quarrel Rustwick Silverby Tarnmouth Umberly Vintry Westerby Yorrel Zandvoor
    Ambery Blackmoor Corvale Dunwell Elmstow Fenwold Garrow Hollin Inverly Jarrow Kelby Lanmark Marrowby Nutley
    Oxmere Pinewell Quenby Redmoor Stannick Thistleby Ulverton Varnsey Windle Yewdale Ardle Bexcott Clayford
    Drumlin Everby Foxholt Glenarm Highmoor Ivelet Kingsby
    """
)
"""Towns, three to a country."""

LANGUAGES = _words(
    """
    Avish Brelic Corvic Dunnish Elvaric Fenric Galvic Hestic Ilvian Jaskic Kethic Lorvish Mirric Noskan
    """
)
"""Languages; some are spoken in two countries."""

JOBS = _words(
    """
    baker carpenter doctor farmer gardener judge lawyer miller nurse painter pilot sailor singer tailor teacher
    weaver
    """
)
"""Jobs, all with the article `a`."""

COMPANIES = _words(
    """
    Acorda Brightmill Cobaltix Duskfire Emberline Fairpost Goldleaf Harvestor Ironbell Jadeworks Kitewind
    Lanternix Moonbrook Northkiln Opaline Pinevault Quickwater Redkiln Starfell Tidemark Unistar Vellumco
    Whitepeak Yellowfin
    """
)
"""Companies, each with its seat in one town."""

PLACES = _words(
    """
    market harbour library station garden bakery museum theatre school park bridge mill forest castle kitchen
    office
    """
)
"""Places where stories happen."""

THINGS = _words(
    """
    lantern rope bell drum basket kettle letter ring map book bottle candle coin key mirror pencil ribbon scarf
    spoon umbrella violin whistle apple lemon hammer blanket button cup flute feather ladder brush
    """
)
"""Things that are given, owned and listed."""

COLOURS = _words(
    """
    red blue green yellow purple orange black white brown grey pink silver
    """
)
"""Colours."""

EVENTS = _words(
    """
    war siege reign strike drought voyage feud festival trial plague truce famine
    """
)
"""What lasts from one year to another."""
