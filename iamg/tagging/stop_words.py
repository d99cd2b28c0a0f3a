"""English words that carry no subject of their own, and so end a key phrase."""

STOP_WORDS = frozenset(
    """
    a about above across after again against all almost alone along already also although always am among an and
    another any anybody anyone anything anywhere are aren't around as at away back be became because become becomes
    been before began behind being below between both but by came can can't cannot come comes could couldn't did
    didn't do does doesn't doing don't done down during each either else enough even ever every everybody everyone
    everything everywhere few find finds first for found from further gave get gets getting give given gives go goes
    going gone got had hadn't has hasn't have haven't having he he'd he'll he's hence her here here's hers herself
    him himself his how however i i'd i'll i'm i've if in indeed instead into is isn't it it's its itself just keep
    keeps kept last later least less let let's like likely made make makes making many may maybe me meanwhile might
    mine more moreover most mostly much must my myself near nearly need needs neither never nevertheless next no
    nobody none nor not nothing now nowhere of off often on once one only onto or other others otherwise our ours
    ourselves out over own per perhaps put quite rather really said same say says see seem seemed seems seen several
    shall she she'd she'll she's should shouldn't since so some somebody someone something sometimes somewhere soon
    still such take taken takes than that that's the their theirs them themselves then there there's therefore these
    they they'd they'll they're they've this those though through throughout thus to together too took toward towards
    try tries trying turn turns two under unless until up upon us use used uses using usually very via want wants was
    wasn't way we we'd we'll we're we've well went were weren't what what's whatever when whenever where wherever
    whether which while who who's whoever whole whom whose why will with within without won't would wouldn't yet you
    you'd you'll you're you've your yours yourself yourselves
    """.split()
)
