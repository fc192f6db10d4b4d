from tailrace import deadletter


def test_a_dead_letter_keeps_the_original_bytes_and_headers_and_says_why() -> None:
    sent = deadletter.letter(
        worker="search",
        stage="write",
        reason="mapping conflict",
        place=("bank.conformed.customer", 2, 41),
        key=b"\xff\x00",
        value=None,
        headers=[("tailrace.version", b"1"), ("tailrace.error.stage", b"old")],
    )
    back = deadletter.read(b"\xff\x00", None, sent.message_headers())
    assert back == sent
    assert back.source == "bank.conformed.customer/2/41"
    assert back.headers == (("tailrace.version", b"1"),)


def test_a_message_without_our_headers_is_still_readable() -> None:
    assert deadletter.read(None, b"x", None).reason == ""
