"""What calls cost: sums of the ledger, why one call cost what it did, comparison with a provider's bill, advice."""
