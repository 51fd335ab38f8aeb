"""Words that are nobody's name: of Prembly's documented answers, and of ours."""

VOCABULARY = frozenset(
    """
    a able about accepted account active additional address advance advanced again all already
    amount an and any api api_key are async at authentication authorization available back bad
    balance bank basic be been before biometric blocked body bvn by cac can can't card cards
    check checkout code company complete completed confidence connection contact could couldn't
    credit critical customer data date declined default denied detail details didn't disabled
    document does doesn't done driver drivers driving duplicate empty enabled endpoint enter
    entered error errors escalated event exist exists expired face facial fail failed failure
    false field fields file flagged for format found free from has have high http https id
    identity identitypass image images in inactive incomplete info information insufficient
    internal invalid ip is issue it its json kindly kyc later level licence license limit listed
    live liveness low match matched matching medium message method minimal missing name new nin
    no none not null number of ok on or paid parameter passed passport pay pending permanent
    phone photo please portal prembly premium process processed processing production provided
    query ready received record records reference rejected request required response result
    retrieved retry returned review sandbox screening sdk selfie server service services session
    sorry source started state status submitted success successful successfull successfully
    suspended system tax temporary test that the there this time timeout tin to token too
    transaction true try type unable unauthorized unavailable undefined unknown unpaid
    unsuccessful update url used user v valid value verification verifications verified verify
    verifying via virtual vnin voter voters wallet was watch watchlist watchlisted webhook were
    widget with workflow wrong yes you your
    """.split()
)
# More words that the names of event types are made of, and nobody's name there.
TYPE_WORDS = VOCABULARY | frozenset(
    """
    alert analysis asynchronous cancelled case closed created decision direct escalated flagged
    fraud identity manual monitoring opened other process raised released reported resolved
    retried retry rule scored screened sdk statement triggered unnamed updated
    """.split()
)
