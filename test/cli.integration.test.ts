/** The command line as a user has it: what it answers, and that every mistake is one line with the numbers, exit code 2 and no stack. */
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { EMBEDDED_MODEL } from '../src/cli/embedded.ts';
import { attentionpack, complaint, complaintOf, lastJson, spawned } from './support/cli.ts';
import { IMAGE_SIZE, picture, removeFolder, TOKENS_PER_IMAGE, temporaryFolder, writeTinyModel } from './support/models.ts';

const CONTEXT = 200;
let root: string;
let model: string;
let image: string;

function file(name: string, bytes: Uint8Array | string): string {
  const target = path.join(root, name);
  writeFileSync(target, bytes);
  return target;
}

async function noise(format: 'png' | 'jpeg', seed = 1): Promise<Buffer> {
  const { data, width, height } = picture(seed, 2 * IMAGE_SIZE);
  return sharp(data, { raw: { width, height, channels: 3 } })
    .toFormat(format)
    .toBuffer();
}

beforeAll(async () => {
  root = temporaryFolder();
  model = await writeTinyModel(root, { contextLength: CONTEXT });
  image = file('noise.png', await noise('png'));
});
afterAll(() => removeFolder(root));

describe('run', () => {
  test('answers a question about pictures and tells what the cache held as JSON, last', async () => {
    const result = await attentionpack('run', model, 'What is this?', image, image, '--rank', '8,6', '--max-new-tokens', '5', '--json');
    expect(result).toMatchObject({ code: 0, stderr: '' });
    const { answer, tokens, cache } = lastJson(result);
    expect(typeof answer).toBe('string');
    expect(tokens).toBeLessThanOrEqual(5);
    expect(cache).toMatchObject({ packedImages: 2, packedTokens: 2 * TOKENS_PER_IMAGE - 2, ranks: { keys: 8, values: 6 } });
  });

  test('prints the answer and one line about the cache for people, and takes what the context has left by default', async () => {
    const result = await attentionpack('run', model, 'Ünïcødé, 你好 🙂?', image);
    expect(result).toMatchObject({ code: 0, stderr: '' });
    expect(result.stdout).toMatch(/\n\d+ tokens, 14 of them packed; cache .* dense fp16 .*\n/);
  });

  test('reads grey, transparent, 16-bit, turned and 1 x 1 pictures', async () => {
    const gray = sharp(Buffer.alloc(64, 90), { raw: { width: 8, height: 8, channels: 1 } });
    const clear = sharp(Buffer.alloc(256, 90), { raw: { width: 8, height: 8, channels: 4 } });
    const both = sharp(Buffer.alloc(128, 90), { raw: { width: 8, height: 8, channels: 2 } });
    const dot = sharp(Buffer.alloc(3, 90), { raw: { width: 1, height: 1, channels: 3 } });
    const files = [
      file('gray.png', await gray.clone().png().toBuffer()),
      file('gray16.png', await gray.toColourspace('grey16').png().toBuffer()),
      file('clear.png', await clear.png().toBuffer()),
      file('both.png', await both.png().toBuffer()),
      file('dot.png', await dot.png().toBuffer()),
      file(
        'turned.jpg',
        await sharp(await noise('jpeg'))
          .withMetadata({ orientation: 6 })
          .toBuffer(),
      ),
    ];
    const result = await attentionpack('run', model, '?', ...files, '--max-new-tokens', '2', '--json');
    expect(result).toMatchObject({ code: 0, stderr: '' });
    expect(lastJson(result).cache).toMatchObject({ packedImages: files.length });
  });

  test.each([
    ['no picture', () => [], /no images given/],
    ['a missing one', () => ['not-there.png'], /'not-there.png' does not exist/],
    ['a folder', () => [root], /is not a file/],
    ['an empty file', () => [file('empty.png', '')], /empty.png' cannot be read/],
    ['a text file', () => [file('text.png', 'I am a text.\n')], /text.png' cannot be read: .*unsupported image format/],
    [
      'half a PNG',
      async () => [file('half.png', (await noise('png')).subarray(0, 5000))],
      /half.png' cannot be read: .*; give a PNG, JPEG/,
    ],
    ['a JPEG cut short', async () => [file('cut.jpg', (await noise('jpeg')).subarray(0, -40))], /cut.jpg' cannot be read: .*premature end/],
    [
      'a PNG of 50000 x 50000',
      async () => [file('huge.png', claiming(await noise('png'), 50_000))],
      /50000 x 50000 pixels, 2500 megapixels; at most 268/,
    ],
  ] as const)('with %s says so', async (_, files, message) => {
    expect(await complaint('run', model, 'What?', ...(await files()))).toMatch(message);
  });

  test('with a prompt or an answer beyond the context gives the counts', async () => {
    const many = new Array<string>(12).fill(image);
    expect(await complaint('run', model, 'What?', ...many)).toMatch(
      /^error: 200 tokens of prompt and max_new_tokens 1 make 201|^error: 2\d\d tokens .* context of 200/,
    );
    expect(await complaint('run', model, 'What?', image, '--max-new-tokens', '500')).toMatch(
      /^error: 24 tokens of prompt and max_new_tokens 500 make 524, which exceed the model's context of 200; ask for at most 176/,
    );
    expect(await complaint('run', model, `What ${'long '.repeat(40)}?`, image)).toMatch(/^error: \d+ tokens .*context of 200/);
  });

  test.each([
    [['--rank', '65'], /rank 65 exceeds the 64 columns of layer 0/],
    [['--rank', '0'], /--rank takes a whole number >= 1; got '0'/],
    [['--rank', '-3'], /--rank takes a whole number >= 1; got '-3'/],
    [['--rank', '2.5'], /got '2.5'/],
    [['--rank', 'many'], /got 'many'/],
    [['--rank', '1,2,3'], /one number or keys,values; got '1,2,3'/],
    [['--rank', '8,'], /got ''/],
    [['--rank='], /--rank needs a value/],
    [['--rank'], /--rank needs a value/],
    [['--rnk', '8'], /run has no option '--rnk'; it has .*--rank/],
    [['--max-new-tokens', '0'], /--max-new-tokens takes a whole number/],
    [['--codes', 'int4'], /--codes must be one of float32, float16, int8, mixed; got 'int4'/],
    [['--bits', '9'], /--bits takes a number from 1 to 8; got '9'/],
    [['--bits', '4'], /bits needs codes or basis 'mixed', and the model was loaded with codes 'float32' and basis 'float32'/],
    [['--codes', 'mixed', '--spread', 'odd'], /--spread must be one of energy, even; got 'odd'/],
    [['--tolerance', '0.1'], /tolerance is of a basis that grows, which needs basisPer 'context' and compactAt 'span'/],
    [
      ['--rank', '8', '--basis-per', 'context', '--compact-at', 'span', '--codes', 'int8'],
      /a basis that grows .* needs codes and basis float32 or float16/,
    ],
    [['--tolerance', 'low'], /--tolerance takes a share from 0 to below 1; got 'low'/],
    [['--bases', 'weighted'], /needs the model's query moments; make them with 'attentionpack calibrate/],
    [['--dtype', 'fp64'], /--dtype must be one of fp32, .*; got 'fp64'/],
    [['--dtype', 'fp16'], /has no fp16 weights; it has fp32/],
  ] as const)('refuses %j', async (flags, message) => {
    expect(await complaint('run', model, 'What?', image, ...flags)).toMatch(message);
  });

  test('refuses questions that write image placeholders themselves', async () => {
    expect(await complaint('run', model, 'What does <image> mean?', image)).toMatch(/2 times '<image>' for 1 images/);
  });

  test('refuses models that are none', async () => {
    const bare = path.join(root, 'bare');
    const broken = path.join(root, 'broken');
    const cut = path.join(root, 'cut');
    mkdirSync(bare);
    for (const folder of [broken, cut]) cpSync(model, folder, { recursive: true });
    writeFileSync(path.join(broken, 'config.json'), '{ "model_type": ');
    const decoder = path.join(cut, 'onnx', 'decoder_model_merged.onnx');
    writeFileSync(decoder, readFileSync(decoder).subarray(0, 20_000));
    expect(await complaint('run')).toMatch(/<model> is missing/);
    expect(await complaint('run', model)).toMatch(/<question> is missing/);
    expect(await complaint('run', 'nothing-here', 'What?', image)).toMatch(/'nothing-here' is neither a folder nor an id/);
    expect(await complaint('run', image, 'What?', image)).toMatch(/is a file; give the folder/);
    expect(await complaint('run', bare, 'What?', image)).toMatch(/has no config.json/);
    expect(await complaint('run', broken, 'What?', image)).toMatch(/config.json is not JSON/);
    expect(await complaint('run', cut, 'What?', image)).toMatch(/decoder_model_merged.onnx/);
  });
});

describe('as a process', () => {
  test('a mistake is one line on stderr, exit code 2, no stack', async () => {
    expect(complaintOf(await spawned('run', model, 'What?', path.join(root, 'not-there.png')))).toMatch(/does not exist/);
  });

  test('a run ends with code 0 and JSON as the last line of stdout', async () => {
    const result = await spawned('run', model, 'What?', image, '--max-new-tokens', '2', '--json');
    expect(result).toMatchObject({ code: 0, stderr: '' });
    expect(lastJson(result)).toHaveProperty('cache.packedImages', 1);
  });
});

/** A PNG whose header says it is `side` pixels wide and high. */
function claiming(png: Buffer, side: number): Buffer {
  const bytes = Buffer.from(png);
  bytes.writeUInt32BE(side, 16);
  bytes.writeUInt32BE(side, 20);
  bytes.writeUInt32BE(crc32(bytes.subarray(12, 29)), 29);
  return bytes;
}

function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? 0xedb88320 ^ (crc >>> 1) : crc >>> 1;
  }
  return (crc ^ 0xffffffff) >>> 0;
}

describe('commands', () => {
  test('that are unknown, missing or misspelt are refused with those there are', async () => {
    expect(await complaint()).toMatch(/no command given; use one of demo, run, eval, inspect, rewrite, calibrate, convert/);
    expect(await complaint('pack')).toMatch(/'pack' is not a command; use one of demo, run/);
    expect(await complaint('toString')).toMatch(/'toString' is not a command/);
    expect(await complaint('inspect', model, '--jsn')).toMatch(/inspect has no option '--jsn'; it has .*--json/);
  });

  test.each([
    ['--help'],
    ['run', '--help'],
    ['demo', '-h'],
    ['inspect', '--help'],
    ['rewrite', '--help'],
    ['calibrate', '--help'],
    ['convert', '--help'],
  ])('%s %s shows the usage and nothing else', async (...args) => {
    const result = await attentionpack(...args.filter(Boolean));
    expect(result).toMatchObject({ code: 0, stderr: '' });
    expect(result.stdout).toContain('USAGE attentionpack');
    expect(result.stdout).not.toContain('\x1b');
  });

  test('inspect tells layers, bytes and whether a decoder can be packed', async () => {
    const result = await attentionpack('inspect', model, '--json');
    expect(result).toMatchObject({ code: 0, stderr: '' });
    // 2 layers, keys and values of 4 heads of 16, two bytes each
    expect(lastJson(result)).toMatchObject({ denseFp16BytesPerToken: 2 * 2 * 64 * 2, rewritten: 2, refused: [] });
    expect(result.stdout).toContain('can be packed: 2 attention nodes');
  });

  test('inspect and rewrite refuse files that are no decoder', async () => {
    for (const command of ['inspect', 'rewrite']) {
      expect(await complaint(command)).toMatch(/<model> is missing/);
      expect(await complaint(command, 'nothing-here')).toMatch(/'nothing-here' does not exist/);
      expect(await complaint(command, file('text.onnx', 'I am a text.\n'))).toMatch(/text.onnx/);
    }
    expect(await complaint('inspect', path.join(root, 'checkpoint'))).toMatch(/has no decoder_model_merged/);
  });

  test('rewrite --why --json lists refusals, and writes a decoder that inspect then reads', async () => {
    const out = path.join(root, 'rewritten');
    const result = await attentionpack('rewrite', model, '--why', '--json', '--out', out);
    expect(result).toMatchObject({ code: 0, stderr: '' });
    expect(lastJson(result)).toMatchObject({ rewritten: 2, refused: [] });
    expect(readdirSync(out)).toContain('decoder_model_merged.onnx');
    const again = await attentionpack('rewrite', model, '--out', out);
    expect(again).toMatchObject({ code: 2, stderr: expect.stringMatching(/^error: .*exists; remove it or choose another --out\n$/) });
    expect(await complaint('rewrite', model, '--provider', 'gpu')).toMatch(/--provider must be one of/);
  });

  test('convert makes a folder that run takes', async () => {
    const out = path.join(root, 'converted');
    expect(await attentionpack('convert', path.join(root, 'checkpoint'), '--out', out, '--dtype', 'fp32')).toMatchObject({ code: 0 });
    expect((await attentionpack('run', out, 'What?', image, '--max-new-tokens', '2', '--json')).code).toBe(0);
    expect(await complaint('convert', path.join(root, 'checkpoint'))).toMatch(/--out is missing/);
  });
});

describe('demo', () => {
  test('asks the embedded model about eight pictures and ends with the documented JSON', async () => {
    expect(existsSync(path.join(EMBEDDED_MODEL, 'demo', 'questions.json')), `${EMBEDDED_MODEL} is there`).toBe(true);
    const result = await attentionpack('demo', '--json');
    expect(result.code, result.stderr).toBe(0);
    const json = lastJson(result);
    expect(json).toMatchObject({
      images: 8,
      visualTokens: 512,
      kv: {
        denseFp16Bytes: expect.any(Number),
        packedBytes: expect.any(Number),
        compression: expect.any(Number),
        visualCompression: expect.any(Number),
      },
      loyalty: { top1: expect.any(Number), answerMatch: expect.any(Number), kl: expect.any(Number) },
      decodeMsPerToken: { dense: expect.any(Number), packed: expect.any(Number) },
    });
    // What the README promises of it.
    const { kv, loyalty } = json as { kv: { visualCompression: number }; loyalty: { top1: number } };
    expect(kv.visualCompression).toBeGreaterThanOrEqual(5);
    expect(loyalty.top1).toBeGreaterThanOrEqual(0.97);
    const answers = json.answers as Record<string, unknown>[];
    expect(answers.length).toBeGreaterThanOrEqual(5);
    for (const answer of answers) expect(Object.keys(answer).sort()).toEqual(['dense', 'expected', 'packed', 'question']);
  });
});
