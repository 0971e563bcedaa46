/**
 * Makes conversations about pictures that `views.ts` has drawn:
 *
 *   npx tsx train/conversations.ts --scenes pool.jsonl --seed 1     answers requests on stdin, one JSON line each
 *   npx tsx train/conversations.ts --corpus                         prints text to train a tokenizer on
 *
 * A request: {"count": 12, "images": [1, 2, 4], "kinds": {"single": 3, "text": 1}, "questions": 10, "types": {"name": 2, "which": 3},
 * "later": 0.25, "clip": false}. `images` are numbers of pictures the first turn may show, one of them drawn for each conversation; `kinds`
 * and `types` are weights (default: all alike); `later` is the probability that a further turn brings one or two more pictures (default 0,
 * never in a clip); a clip's pictures are its frames, numbered like images. A type the context has nothing for is replaced by another of `types`, at last by colour.
 *
 * Each is answered with `count` lines {"turns": [{"views", "type", "question", "answer", "subject"?, "image"?}], "clip"?}: `views` are line
 * numbers in the pool (from 0) of the pictures a turn shows first, `image` is the number, from 1, of the picture the answer lies in.
 */
import { once } from 'node:events';
import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { mixSeed, type Random, seeded } from '../src/eval/drawing/random.ts';
import { KINDS, type Kind, type Scene } from '../src/eval/drawing/scene.ts';
import { type Asked, ask, Contents, corpusLines, exclusiveKeys, QUESTION_TYPES, type QuestionType } from '../src/eval/questions/index.ts';

interface Request {
  readonly count: number;
  readonly images: readonly number[];
  readonly kinds?: Partial<Record<Kind, number>>;
  readonly questions: number;
  readonly types?: Partial<Record<QuestionType, number>>;
  readonly later?: number;
  readonly clip?: boolean;
}

interface Conversation {
  readonly turns: readonly (Asked & { readonly views: readonly number[] })[];
  readonly clip?: true;
}

const { values: flags } = parseArgs({
  options: { scenes: { type: 'string' }, seed: { type: 'string', default: '1' }, corpus: { type: 'boolean', default: false } },
});

/** Scenes of the pool, and their indices by kind. */
interface Pool {
  readonly scenes: readonly Scene[];
  readonly ofKind: Readonly<Record<Kind, readonly number[]>>;
}

async function readPool(file: string): Promise<Pool> {
  const scenes: Scene[] = [];
  for await (const line of createInterface({ input: createReadStream(file) })) scenes.push(JSON.parse(line) as Scene);
  const ofKind = Object.fromEntries(KINDS.map((kind) => [kind, [] as number[]])) as Record<Kind, number[]>;
  for (const [i, { kind }] of scenes.entries()) ofKind[kind].push(i);
  return { scenes, ofKind };
}

function converse(request: Request, pool: Pool, random: Random): Conversation {
  const views = new Views(request, pool, random);
  const { later = 0, clip = false, questions } = request;
  const types = weights(QUESTION_TYPES, request.types);
  const turns: (Asked & { views: readonly number[] })[] = [];
  const asked = new Set<string>();
  let contents: Contents | undefined;
  for (let turn = 0; turn < questions; turn++) {
    const brings = turn === 0 ? random.pick(request.images) : !clip && random.chance(later) ? 1 + random.below(2) : 0;
    const shown = views.next(brings);
    if (!contents || shown.length > 0) contents = new Contents(views.scenes);
    const context = contents;
    const question = askAnew(asked, () => askOneOf(types, context, random));
    turns.push({ views: shown, ...question });
  }
  return clip ? { turns, clip } : { turns };
}

/** Draws a conversation's pictures from the pool, no two with a thing in common. */
class Views {
  readonly scenes: Scene[] = [];
  readonly #pool: Pool;
  readonly #kinds: Weights<Kind>;
  readonly #random: Random;
  readonly #taken = new Set<string>();

  constructor({ kinds }: Request, pool: Pool, random: Random) {
    this.#pool = pool;
    this.#random = random;
    this.#kinds = weights(KINDS, kinds).filter(([kind]) => pool.ofKind[kind].length > 0);
  }

  /** Indices into the pool of so many further pictures. */
  next(count: number): number[] {
    return Array.from({ length: count }, () => {
      const kind = weighted(this.#kinds, this.#random);
      let index = 0;
      let keys: string[] = [];
      // A long context of few words may have none left to itself; what it shares is then not asked about by content.
      for (let attempt = 0; attempt < 50; attempt++) {
        index = this.#random.pick(this.#pool.ofKind[kind]);
        keys = exclusiveKeys(this.#pool.scenes[index] as Scene);
        if (!keys.some((key) => this.#taken.has(key))) break;
      }
      for (const key of keys) this.#taken.add(key);
      this.scenes.push(this.#pool.scenes[index] as Scene);
      return index;
    });
  }
}

/** A question not yet asked; the last of a few tries if a small context has no more to ask. */
function askAnew(asked: Set<string>, draw: () => Asked): Asked {
  let question = draw();
  for (let attempt = 0; attempt < 4 && asked.has(question.question); attempt++) question = draw();
  asked.add(question.question);
  return question;
}

function askOneOf(types: Weights<QuestionType>, contents: Contents, random: Random): Asked {
  let left = types;
  while (left.length > 0) {
    const type = weighted(left, random);
    const asked = ask(type, contents, random);
    if (asked) return asked;
    left = left.filter(([other]) => other !== type);
  }
  return ask('colour', contents, random) as Asked;
}

type Weights<T> = readonly (readonly [T, number])[];

function weights<T extends string>(all: readonly T[], given: Partial<Record<T, number>> | undefined): Weights<T> {
  const unknown = Object.keys(given ?? {}).find((name) => !(all as readonly string[]).includes(name));
  if (unknown) throw new Error(`no kind or type of question '${unknown}'; there are ${all.join(', ')}`);
  return all.map((name) => [name, given ? (given[name] ?? 0) : 1] as const).filter(([, weight]) => weight > 0);
}

function weighted<T>(of: Weights<T>, random: Random): T {
  let rest = random.uniform(0, 1) * of.reduce((sum, [, weight]) => sum + weight, 0);
  const found = of.find(([, weight]) => (rest -= weight) < 0) ?? of.at(-1);
  if (!found) throw new Error('the pool has no scene of the kinds asked for');
  return found[0];
}

async function write(text: string): Promise<void> {
  if (!process.stdout.write(text)) await once(process.stdout, 'drain');
}

// A reader that has enough closes the pipe: that is the usual end.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));
if (flags.corpus) {
  await write(`${[...corpusLines()].join('\n')}\n`);
} else if (flags.scenes) {
  const pool = await readPool(flags.scenes);
  const random = seeded(mixSeed('conversations', flags.seed));
  for await (const line of createInterface({ input: process.stdin })) {
    if (!line.trim()) continue;
    const request = JSON.parse(line) as Request;
    await write(Array.from({ length: request.count }, () => `${JSON.stringify(converse(request, pool, random))}\n`).join(''));
  }
} else {
  console.error('say --scenes pool.jsonl, written by views.ts --scenes, or --corpus');
  process.exit(2);
}
