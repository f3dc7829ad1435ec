#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Commits since BASE follow docs/CONTRIBUTING.md: a subject with an area, a body that says why."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

BASE = 'c6bb16e3a6c4ea99034a2284514d508c7e0d3f14'  # the last commit before there were rules
LONGEST = 72  # characters of a subject
TRIFLE = 10   # a change of fewer lines explains itself

# One or two words or paths; commas between several areas.
AREA = r'[\w./+-]+(?: [\w./+-]+)?'
SUBJECT = re.compile(rf'(?P<area>{AREA}(?:, {AREA})*): (?P<text>\S.*)')
# Whom a change is from and who looked at it is no reason for it.
TRAILER = re.compile(r'[\w-]+-by: |Change-Id: ')

VERBS = ('add allow change check clean correct drop fix handle improve introduce keep make move open '
         'pass prevent refuse remove rename replace report return set show simplify split start stop '
         'support switch test try turn update use wait write').split()
IRREGULAR = 'kept made sent told tried tries wrote written a an the this these'.split()


def other_forms(verb: str) -> set[str]:
    """What is not the imperative: adds, added, adding; splits, splitting; uses, used, using."""
    stem = verb.removesuffix('e')
    doubled = verb + verb[-1]
    return {verb + 's', verb + 'es', stem + 'ed', doubled + 'ed', stem + 'ing', doubled + 'ing'}


REFUSED = set(IRREGULAR).union(*map(other_forms, VERBS))


class Commit(NamedTuple):
    message: str
    changed: int = 100  # lines added and removed
    parents: int = 1


def subject_faults(subject: str) -> list[str]:
    found = []
    match = SUBJECT.fullmatch(subject)
    if len(subject) > LONGEST:
        found.append(f'subject is longer than {LONGEST} characters')
    if subject.endswith('.'):
        found.append('subject ends with a full stop')
    if not match:
        return [*found, 'subject is not "area: Text"']
    text = match['text']
    if not text[0].isupper():
        found.append('text after the area does not begin with a capital letter')
    if re.split(r'\W', text)[0].lower() in REFUSED:
        found.append('text after the area is not in the imperative')
    return found


def faults_of(commit: Commit) -> list[str]:
    """What is wrong with it, in the order of the message."""
    subject, *rest = commit.message.rstrip().split('\n')
    if commit.parents > 1 or subject.startswith('Revert "'):
        return []  # git wrote them
    found = subject_faults(subject)
    if rest and rest[0].strip():
        found.append('second line is not blank')
    body = [line for line in rest if line.strip() and not TRAILER.match(line)]
    if not body and commit.changed >= TRIFLE:
        found.append(f'no body, but {TRIFLE} changed lines or more')
    return found


def changed_lines(numstat: str) -> int:
    """Of `git log -M --numstat`: a file that only moved counts 0, a binary one as no trifle."""
    counts = [line.split('\t')[:2] for line in numstat.splitlines() if line.count('\t') >= 2]
    return sum(TRIFLE if '-' in pair else sum(map(int, pair)) for pair in counts)


WHY = '\n\nThe queue stopped with requests in flight.'
NO_BODY, NO_AREA = 'no body, but 10 changed lines or more', 'subject is not "area: Text"'
CASE = 'text after the area does not begin with a capital letter'
MOOD = 'text after the area is not in the imperative'
EXAMPLES = {
    'a good message': (Commit('virtio-blk: Drain before the queue stops' + WHY), []),
    'several areas': (Commit('vmm/loop, unit/loop, minivmm run: Drain' + WHY), []),
    'a capital area': (Commit('README: Show real output' + WHY), []),
    'a colon in the text': (Commit('lab: Name the lanes: native, nested' + WHY), []),
    '72 characters': (Commit('lab: ' + 'X' * 67 + WHY), []),
    '73 characters': (Commit('lab: ' + 'X' * 68 + WHY), ['subject is longer than 72 characters']),
    'no area': (Commit('Drain before the queue stops' + WHY), [NO_AREA]),
    'a sentence before the colon': (Commit('What is read is kept: Drain' + WHY), [NO_AREA]),
    'no space after the colon': (Commit('blk:Drain' + WHY), [NO_AREA]),
    'a fixup': (Commit('fixup! blk: Drain' + WHY), [NO_AREA]),
    'an empty message': (Commit(''), [NO_AREA, NO_BODY]),
    'a small letter': (Commit('blk: drain before the queue stops' + WHY), [CASE]),
    'a past tense': (Commit('blk: Added a drain' + WHY), [MOOD]),
    'a third person': (Commit('blk: Fixes the drain' + WHY), [MOOD]),
    'a doubled letter': (Commit('blk: Splitting requests' + WHY), [MOOD]),
    'a dropped e': (Commit('blk: Using a drain' + WHY), [MOOD]),
    'a statement': (Commit('blk: The queue is drained' + WHY), [MOOD]),
    'an imperative that only looks like another form': (Commit('blk: Address reads' + WHY), []),
    'a full stop': (Commit('blk: Drain.' + WHY), ['subject ends with a full stop']),
    'no blank line': (Commit('blk: Drain\nbecause'), ['second line is not blank']),
    'no body': (Commit('blk: Drain', changed=10), [NO_BODY]),
    'nothing but who it is from': (Commit('blk: Drain\n\nSigned-off-by: A <a@b>'), [NO_BODY]),
    'a trifle without a body': (Commit('blk: Drain', changed=9), []),
    'a merge': (Commit("Merge branch 'topic' into main", parents=2), []),
    'a revert': (Commit('Revert "blk: Drain"'), []),
    'all at once': (Commit('blk: added.\nx'), ['subject ends with a full stop', CASE, MOOD,
                                               'second line is not blank']),
}
STATISTICS = {
    'lines are added up': ('3\t4\ta.c\n1\t1\tb.c\n', 9),
    'a file that moved is no change': ('0\t0\tvmm/{a.c => core/a.c}\n', 0),
    'a binary file is no trifle': ('-\t-\tpicture.png\n', 10),
    'an empty commit has no lines': ('\n', 0),
}


def git(root: str, *words: str) -> subprocess.CompletedProcess:
    # A checkout may belong to another user, as in a container; git is only asked to read it.
    return subprocess.run(['git', '-c', f'safe.directory={root}', '-C', root, *words],
                          capture_output=True, text=True, errors='replace')


def why_not(root: str) -> str:
    """Why the history cannot be checked, or nothing."""
    if not shutil.which('git'):
        return 'no git'
    inside = git(root, 'rev-parse', '--is-shallow-repository')
    if inside.returncode:
        return 'no history: ' + (inside.stderr.strip().splitlines() or ['git failed'])[0]
    if git(root, 'merge-base', '--is-ancestor', BASE, 'HEAD').returncode:
        shallow = ', the clone is shallow' if inside.stdout.strip() == 'true' else ''
        return f'{BASE[:10]} is not an ancestor of HEAD{shallow}'
    return ''


def commits(root: str):
    """Yields (hash, commit), oldest first."""
    log = git(root, '-c', 'log.showSignature=false', 'log', '--reverse', '-M', '-l0', '--numstat',
              '--encoding=UTF-8', '--format=%x01%h%x00%P%x00%B%x00', f'{BASE}..HEAD')
    if log.returncode:
        raise RuntimeError(log.stderr)
    for record in log.stdout.split('\x01')[1:]:
        short, parents, message, numstat = record.split('\0', 3)
        yield short, Commit(message, changed_lines(numstat), len(parents.split()))


def main() -> int:
    results = [(f'checker: {name}', [] if faults_of(commit) == expected else
                [f'expected {expected}, found {faults_of(commit)}'], '')
               for name, (commit, expected) in EXAMPLES.items()]
    results += [(f'checker: {name}', [] if changed_lines(text) == expected else
                 [f'expected {expected}, found {changed_lines(text)}'], '')
                for name, (text, expected) in STATISTICS.items()]
    root = str(Path(sys.argv[1]).resolve())
    reason = why_not(root)
    if not reason:
        results += [(f'commit {short}', faults_of(commit), commit.message.split('\n')[0])
                    for short, commit in commits(root)]

    print(f'1..{len(results) + bool(reason)}')
    for number, (name, faults, subject) in enumerate(results, 1):
        print(f"{'not ok' if faults else 'ok'} {number} - {'; '.join([name, *faults])}")
        if faults and subject:
            print(f'# {subject}')
    if reason:
        print(f'ok {len(results) + 1} - commits # SKIP {reason}')
    return any(faults for _, faults, _ in results)


sys.exit(main())
