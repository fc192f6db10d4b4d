import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.version import MAX_EPOCH, MAX_OFFSET, pack, unpack

epochs = st.integers(1, MAX_EPOCH)
offsets = st.integers(0, MAX_OFFSET)


@given(epochs, offsets)
def test_unpack_returns_what_was_packed_and_the_version_fits_64_bits(epoch: int, offset: int) -> None:
    version = pack(epoch, offset)
    assert unpack(version) == (epoch, offset)
    assert 0 < version < 1 << 63


@given(epochs, offsets, epochs, offsets)
def test_versions_order_by_epoch_first_then_by_offset(e1: int, o1: int, e2: int, o2: int) -> None:
    assert (pack(e1, o1) < pack(e2, o2)) == ((e1, o1) < (e2, o2))


@pytest.mark.parametrize(("epoch", "offset"), [(0, 1), (MAX_EPOCH + 1, 1), (1, -1), (1, MAX_OFFSET + 1)])
def test_an_epoch_or_offset_out_of_range_is_refused(epoch: int, offset: int) -> None:
    with pytest.raises(ValueError, match="outside"):
        pack(epoch, offset)
