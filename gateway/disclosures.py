"""Tells people who verified their identity: from which province, for which matter, when.

A person asks their own province's identity authority, and its gateway asks all the others, because a verification is
on record where it was made. Rules that live here:

* Only the gateway of the province whose issuer knows a person may ask about that person, and it asks by the subjects
  that this issuer gave out. Nobody else can tell one person's from another's.
* What was accepted is told; nothing of a person was handed on where it was not.
* What another gateway answers is its own word. It does not learn under which subjects a person is known to services of
  other provinces than its own, and it takes no room from what others tell.
* A province that cannot be asked is named. "Nothing known" and "could not ask" are different answers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from gateway.config import RelyingService
from gateway.core.charter import Charter
from gateway.core.entries import read, read_verification
from gateway.core.reasons import InvalidRequest, NotPermitted, Rejected, Unavailable
from gateway.core.references import References
from gateway.peers import MAX_DISCLOSURES, Disclosed, Disclosures, Peer, PeerError
from gateway.storage import EntryQuery, LogStore, StorageError, StoredEntry
from gateway.tls import Caller

MAX_SUBJECTS: Final = 1_000
"""Subjects of one person in one question: one for all credentials, and one for each service with assertions."""
MAX_TOLD_CHARS: Final = 384 * 1024
"""Of what one province tells, in all: four of them fit into one answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A verification, and where it was made."""

    province: str
    disclosed: Disclosed


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What can be told a person."""

    found: tuple[Found, ...]
    """Newest first."""
    truncated: bool
    unreachable: tuple[str, ...]
    """Provinces that could not be asked."""


class DisclosureDesk:
    """Answers who verified whom. Thread-safe: it holds nothing that changes."""

    def __init__(
        self,
        *,
        province: str,
        issuer: str | None,
        subjects: Callable[[str, str], Sequence[str]],
        log: LogStore,
        references: References,
        services: Mapping[str, RelyingService],
        peers: Sequence[Peer],
        charter: Callable[[], Charter],
    ) -> None:
        """Prepare.

        Args:
            province: ours.
            issuer: ours; None: this process plays none.
            subjects: gives the subjects that our issuer gives a person, by the person's local name and the audience;
                an empty audience: those in credentials.
            log: where verifications are on record.
            references: makes references to people.
            services: relying services by the identity in their certificate.
            peers: the other provinces' gateways.
            charter: gives the charter in force.
        """
        self._province = province
        self._issuer = issuer
        self._subjects = subjects
        self._log = log
        self._references = references
        self._services = services
        self._peers = tuple(peers)
        self._charter = charter

    def of_person(self, local_subject: str, since: datetime | None, until: datetime | None = None) -> Told:
        """Tell a person of ours who verified them, in all provinces.

        Raises:
            NotPermitted: this gateway has no issuer that knows people.
            Unavailable: our own log cannot be read. Others that cannot be asked are named.
        """
        issuer = self._issuer
        if issuer is None:
            raise NotPermitted("this gateway has no issuer")
        sources = [
            _Source(province=self._province, services=frozenset(self._services), ask=self._ask_ourselves),
            *(_Source(province=peer.province, gateway=peer.gateway, ask=peer.disclosures) for peer in self._peers),
        ]
        found: list[Found] = []
        truncated, unreachable = False, []
        with ThreadPoolExecutor(max_workers=len(sources)) as pool:
            answers = [
                (source.province, pool.submit(self._collect, source, issuer, local_subject, since, until))
                for source in sources
            ]
            for province, answer in answers:
                try:
                    told = answer.result()
                except PeerError:
                    unreachable.append(province)
                    continue
                kept = _within(told.found)
                found += [Found(province=province, disclosed=each) for each in kept]
                truncated |= told.truncated or len(kept) < len(told.found)
        found.sort(key=lambda each: each.disclosed.verified_at, reverse=True)
        return Told(
            found=tuple(found),
            truncated=truncated,
            unreachable=tuple(unreachable),
        )

    def of_subjects(
        self,
        caller: Caller,
        issuer: str,
        subjects: Sequence[str],
        since: datetime | None,
        until: datetime | None = None,
    ) -> Disclosures:
        """Tell another gateway what is on record here of a person that its province's issuer knows.

        Raises:
            NotPermitted: the issuer is not of the caller's province.
            InvalidRequest: there are too many subjects.
            Unavailable: the log cannot be read.
        """
        if not self.knows(caller, issuer):
            raise NotPermitted("only the gateway of the issuer's own province may ask about its people")
        if not 1 <= len(subjects) <= MAX_SUBJECTS:
            raise InvalidRequest("subjects.subjects", f"must be 1 to {MAX_SUBJECTS}")
        return self._ask_ourselves(issuer, subjects, since, until)

    def knows(self, caller: Caller, issuer: str) -> bool:
        """Whether another gateway is of the province whose issuer knows a person."""
        charter = self._charter()
        asking, known_by = charter.member(caller.identity), charter.member(issuer)
        return asking is not None and known_by is not None and asking.province == known_by.province

    def _collect(
        self, source: _Source, issuer: str, local_subject: str, since: datetime | None, until: datetime | None
    ) -> Disclosures:
        told = source.ask(issuer, self._subjects(local_subject, ""), since, until)
        audiences = [each for each in told.audiences if source.may_name(each)][:MAX_SUBJECTS]
        own = [subject for audience in audiences for subject in self._subjects(local_subject, audience)][:MAX_SUBJECTS]
        if not own:
            return told
        more = source.ask(issuer, own, since, until)
        return replace(told, found=told.found + more.found, truncated=told.truncated or more.truncated)

    def _ask_ourselves(
        self, issuer: str, subjects: Sequence[str], since: datetime | None, until: datetime | None = None
    ) -> Disclosures:
        persons = tuple(self._references.person(issuer, subject) for subject in subjects)
        query = EntryQuery(persons=persons, since=since, until=until)
        try:
            stored = self._log.list_entries(query, MAX_DISCLOSURES + 1, newest_first=True)
            found = [self._disclosed(each, persons) for each in stored[:MAX_DISCLOSURES]]
        except StorageError as error:
            raise Unavailable("the log cannot be read") from error
        except Rejected as rejection:
            raise Unavailable("an entry of the log is damaged; mrg audit verify tells more") from rejection
        return Disclosures(
            found=tuple(found), truncated=len(stored) > MAX_DISCLOSURES, audiences=tuple(sorted(self._services))
        )

    def _disclosed(self, stored: StoredEntry, persons: Sequence[str]) -> Disclosed:
        said = read_verification(read(stored.raw))
        service = self._services.get(said.service)
        as_actor = stored.index.actor in persons
        return Disclosed(
            verification_id=said.verification_id,
            verified_at=said.decided_at,
            service=said.service,
            service_name="" if service is None else service.name,
            matter=said.matter,
            claims=said.actor_released if as_actor else said.released,
            as_actor=as_actor,
            consent_id=said.consent_id,
        )


_Ask = Callable[[str, Sequence[str], datetime | None, datetime | None], Disclosures]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """A gateway that is asked."""

    province: str
    ask: _Ask
    services: Collection[str] = ()
    """Its services, where they are known."""
    gateway: str = ""
    """Under which its services have their identities, where they are not known."""

    def may_name(self, audience: str) -> bool:
        """Whether a service is one of its own: only of those may it know what people are called."""
        return audience in self.services or (bool(self.gateway) and audience.startswith(f"{self.gateway}/"))


def _within(told: Sequence[Disclosed]) -> Sequence[Disclosed]:
    """Give what there is room for, the newest first."""
    kept: list[Disclosed] = []
    chars = 0
    for each in sorted(told, key=lambda one: one.verified_at, reverse=True):
        texts = (each.verification_id, each.service, each.service_name, each.matter, each.consent_id, *each.claims)
        chars += sum(map(len, texts))
        if chars > MAX_TOLD_CHARS:
            break
        kept.append(each)
    return kept
