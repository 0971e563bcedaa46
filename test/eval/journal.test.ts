import { appendFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { JOURNAL_FILE, Journal, type JournalIdentity } from '../../src/eval/journal.ts';
import type { ContextRecord } from '../../src/eval/records.ts';
import type { Task } from '../../src/eval/task.ts';
import { removeFolder, temporaryFolder } from '../support/models.ts';

const identity: JournalIdentity = { model: 'm', fingerprint: 'abc', dtype: '', attentionpack: '1', onnxruntime: '2' };
const bytes = { tokens: 1, held: 1, denseFp16: 1, visualTokens: 1, visualHeld: 1, visualDenseFp16: 1 };
const record = (index: number): ContextRecord => ({
  task: 't',
  setting: 'dense',
  context: `c${index}`,
  index,
  images: 1,
  bytes,
  questions: [{ kind: 't', answer: 'größer\n', score: 1, same: true, tokens: 2, top1: 2, kl: 0 }],
  ms: 3,
});
const task = { name: 't', metricName: 'accuracy', maxNewTokens: 8, size: 5 } as Task;

let folder: string;
beforeEach(() => {
  folder = path.join(temporaryFolder(), 'run');
});
afterEach(() => removeFolder(path.dirname(folder)));

/** A journal of so many entries, at least one. */
function write(numRecords: number): void {
  const journal = new Journal(folder, identity);
  journal.begin(task, 'c0');
  for (let i = 0; i < numRecords; i++) journal.append(record(i));
  journal.close();
}

test('what was written is there when it is opened again, and goes on', () => {
  write(2);
  const journal = new Journal(folder, identity);
  expect(journal.entries).toEqual([record(0), record(1)]);
  journal.begin(task, 'c0');
  journal.append(record(2));
  journal.close();
  expect(new Journal(folder, identity).entries).toHaveLength(3);
});

test('a line cut short anywhere loses that line only, and the file is whole again', () => {
  write(2);
  const file = path.join(folder, JOURNAL_FILE);
  const whole = readFileSync(file);
  for (const cut of [1, 40, 200]) {
    writeFileSync(file, whole.subarray(0, whole.length - cut));
    const journal = new Journal(folder, identity);
    expect(journal.entries).toEqual([record(0)]);
    journal.append(record(1));
    journal.close();
    expect(readFileSync(file)).toEqual(whole);
  }
});

test('a file cut within its first line begins anew', () => {
  write(1);
  const file = path.join(folder, JOURNAL_FILE);
  const whole = readFileSync(file);
  writeFileSync(file, whole.subarray(0, 9));
  const journal = new Journal(folder, identity);
  journal.begin(task, 'c0');
  journal.append(record(0));
  journal.close();
  expect(readFileSync(file)).toEqual(whole);
});

test.each([
  ['model', 'n', "its model is 'm', this one's 'n'"],
  ['fingerprint', 'other', "its fingerprint is 'abc', this one's 'other'"],
  ['dtype', 'q4', "its dtype is '', this one's 'q4'"],
  ['attentionpack', '2', "its attentionpack is '1', this one's '2'"],
])('a journal of another %s is refused in one line', (key, value, message) => {
  write(1);
  expect(() => new Journal(folder, { ...identity, [key]: value })).toThrow(
    `${path.join(folder, JOURNAL_FILE)} is of another run: ${message}`,
  );
});

test('nothing is written before the first entry, and a file is no folder to write to', () => {
  const journal = new Journal(folder, identity);
  journal.begin(task, 'c0');
  journal.close();
  expect(existsSync(folder)).toBe(false);
  writeFileSync(folder, '');
  expect(() => new Journal(folder, identity)).toThrow(`${folder} is a file; name a folder to write to`);
});

test('a task that has changed is refused; more tasks are not', () => {
  write(1);
  const journal = new Journal(folder, identity);
  expect(() => journal.begin({ ...task, size: 6 }, 'c0')).toThrow("task 't' had size 5, now 6");
  expect(() => journal.begin(task, 'd0')).toThrow("task 't' had firstContext c0, now d0");
  journal.begin({ ...task, name: 'other' }, 'o0');
  journal.close();
});

test('a file that is no journal, or a broken line in the middle, is refused in one line', () => {
  write(1);
  const file = path.join(folder, JOURNAL_FILE);
  appendFileSync(file, 'nonsense\n');
  expect(() => new Journal(folder, identity)).toThrow(`${file}: line 4 is not JSON`);
  writeFileSync(file, '{"a":1}\n');
  expect(() => new Journal(folder, identity)).toThrow('is not a journal');
});
