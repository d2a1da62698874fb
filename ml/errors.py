"""What can go wrong in `ml`; each message is a sentence that a user can act on."""


class MlError(Exception):
    """Something about a model, its data or its machine is not as it must be."""


class ModelError(MlError):
    """A model folder is missing, incomplete, damaged or of a kind that cannot be run this way."""


class DataError(MlError):
    """A folder or file of training data is missing, empty or malformed."""


class BackendError(MlError):
    """The chosen way to run the network is not installed or does not work on this machine."""


class MemoryShortError(BackendError):
    """A batch does not fit into the memory that is left: a smaller one may."""


class DeviceLostError(BackendError):
    """Nothing that this process asks of the device will succeed: it does not answer any more, or there is no memory
    left for a single short text."""
