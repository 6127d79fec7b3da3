"""Says of one text after another whether it is (nearly) one that was seen before."""

from penstock.datasets.cleaning.minhash import Hashes, MinHashOptions, band_keys, jaccard, shingle_hashes
from penstock.datasets.cleaning.texts import normalise


class NearIndex:
    """Texts under ids, in memory: about 4 bytes a character."""

    def __init__(self, options: MinHashOptions | None = None) -> None:
        self._options = options or MinHashOptions()
        self._exact: dict[str, str] = {}
        self._bands: dict[int, list[str]] = {}
        self._sets: dict[str, Hashes] = {}

    def find(self, text: str) -> tuple[str, float] | None:
        """Return id and similarity of the most similar text at the threshold or above, or None."""
        same = self._exact.get(normalise(text))
        if same is not None:
            return same, 1.0
        (hashes,) = shingle_hashes([text], self._options)
        candidates = {key: None for band in self._keys(hashes) for key in self._bands.get(band, ())}
        ranked = sorted(((jaccard(hashes, self._sets[key]), key) for key in candidates), reverse=True)
        if ranked and ranked[0][0] >= self._options.threshold:
            return ranked[0][1], round(ranked[0][0], 4)
        return None

    def add(self, key: str, text: str) -> None:
        """Remember a text under an id."""
        if not normalise(text):
            return
        self._exact.setdefault(normalise(text), key)
        (hashes,) = shingle_hashes([text], self._options)
        self._sets[key] = hashes
        for band in self._keys(hashes):
            self._bands.setdefault(band, []).append(key)

    def _keys(self, hashes: Hashes) -> list[int]:
        return [int(key) for key in band_keys([hashes], self._options)[0]] if len(hashes) else []
