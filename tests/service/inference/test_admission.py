"""Which requests have a place, before one takes it."""

import pytest

from batchproof.service.errors import ServiceError
from batchproof.service.inference.admission import Admission


def test_a_request_alone_has_a_place_whatever_its_size() -> None:
    """Where nothing waits, a request of more rows than are allowed may run; beside it nothing else may."""
    admission = Admission(10)
    for rows in (1, 11):
        admission.check(rows, admission.loop, 1.0)
    admission.enter(11, admission.loop, 0.001, 1.0)
    with pytest.raises(ServiceError) as refused:
        admission.check(1, admission.loop, 1.0)
    assert refused.value.status == 429
    admission.drain(lambda: None)
    with pytest.raises(ServiceError) as refused:
        admission.check(1, admission.loop, 1.0)
    assert refused.value.status == 503
