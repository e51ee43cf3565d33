"""What several test files share."""

import pytest
import torch


@pytest.fixture
def small_training():
    """One seed, and one thread: on a busy machine several wait for each other, for long."""
    threads = torch.get_num_threads()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
