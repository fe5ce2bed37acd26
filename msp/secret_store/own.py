"""Our own vault as a store of secrets: everything happens within the caller's transaction."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from msp.secret import Secret
from msp.secret_store.reference import Reference
from msp.secret_store.store import Kept
from msp.vault import CURRENT, Vault, row_of, version_of


@dataclass(frozen=True)
class OwnStore:
    """The secrets of one client (0: the provider). `by`: who changes them."""

    vault: Vault
    session: Session
    client_id: int
    by: str

    def get(self, reference: Reference) -> Kept:
        value = self.vault.get(self.session, reference.name, client_id=self.client_id, which=reference.which)
        row = row_of(self.session, reference.name, self.client_id)
        if reference.which == CURRENT:
            return Kept(value, row.changed_at)
        version = version_of(self.session, row, reference.which)
        return Kept(value, version.made_at if version else None)

    def put(self, reference: Reference, value: Secret) -> None:
        self.vault.put(self.session, reference.name, value.value, by=self.by, client_id=self.client_id)

    def stage(self, reference: Reference, value: Secret) -> None:
        self.vault.stage(self.session, reference.name, value.value, by=self.by, client_id=self.client_id)

    def promote(self, reference: Reference) -> None:
        self.vault.promote(self.session, reference.name, by=self.by, client_id=self.client_id)

    def drop(self, reference: Reference) -> None:
        self.vault.drop(self.session, row_of(self.session, reference.name, self.client_id), reference.which)

    def delete(self, reference: Reference) -> None:
        self.vault.delete(self.session, reference.name, client_id=self.client_id)
