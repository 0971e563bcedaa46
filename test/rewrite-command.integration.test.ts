/** `attentionpack rewrite`: what it prints, what it writes, and how it refuses. */
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { runCommand } from 'citty';
import * as ort from 'onnxruntime-node';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { rewriteCommand } from '../src/cli/rewrite.ts';
import { encodeModel, type Model, readModel, setExternal } from '../src/onnx/index.ts';
import { tinyDecoder } from './support/decoders.ts';
import { gemma } from './support/gemma.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'attentionpack-rewrite-'));
});
afterEach(() => {
  rmSync(folder, { recursive: true });
  process.exitCode = undefined;
});

function save(model: Model, name = 'decoder.onnx'): string {
  const file = path.join(folder, name);
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, encodeModel(model));
  return file;
}

interface Said {
  readonly out: string[];
  readonly error: string;
  readonly code: typeof process.exitCode;
}

async function run(...rawArgs: string[]): Promise<Said> {
  const out: string[] = [];
  const error: string[] = [];
  const log = vi.spyOn(console, 'log').mockImplementation((text: string) => void out.push(...text.split('\n')));
  const write = vi.spyOn(process.stderr, 'write').mockImplementation((text) => error.push(String(text)) > 0);
  try {
    process.exitCode = undefined;
    await runCommand(rewriteCommand, { rawArgs });
    return { out, error: error.join(''), code: process.exitCode };
  } finally {
    log.mockRestore();
    write.mockRestore();
  }
}

const json = ({ out }: Said): unknown => JSON.parse(out.at(-1) ?? '');

describe('reports', () => {
  test('a published graph without its weights', async () => {
    const said = await run(save(gemma('q4f16')), '--why', '--json');
    expect(json(said)).toMatchObject({ rewritten: 34, refused: [] });
    expect(said.out[0]).toContain('34 attention nodes rewritten, rotate-late; 1184 graph nodes become');
    expect(said.code).toBeUndefined();
  });

  test('a model folder', async () => {
    save(tinyDecoder(), 'onnx/decoder_model_merged.onnx');
    expect(json(await run(folder, '--rotary', 'post-rope', '--json'))).toMatchObject({ rewritten: 2, refused: [], rotary: 'post-rope' });
  });

  test('every refused node, with --why', async () => {
    const file = save(tinyDecoder({ bias: 'foreign' }));
    const said = await run(file, '--why', '--json');
    const reason = "foreign bias 'bias': it depends on 'bias', not on 'attention_mask' alone";
    expect(json(said)).toMatchObject({
      rewritten: 0,
      refused: [
        { node: '/layers.0/attention', reason },
        { node: '/layers.1/attention', reason },
      ],
    });
    expect(said.out.filter((line) => line.includes('/layers.1/attention')).length).toBeGreaterThanOrEqual(2); // table and JSON
    expect(said.code).toBe(2);
    expect((await run(file)).out.join()).toContain('(and 1 more; --why lists all)');
  });
});

describe('--out', () => {
  test('a folder gets the decoder with the weights that were inside it', async () => {
    const target = path.join(folder, 'packed', 'decoder.onnx');
    const said = await run(save(tinyDecoder()), '--out', path.dirname(target));
    expect(said.out.at(-1)).toBe(`written to ${target}`);
    const session = await ort.InferenceSession.create(target);
    expect(session.outputNames).toContain('present_raw.1.key');
    await session.release();
    expect(readModel(target).model.graph?.node?.some(({ opType }) => opType === 'GroupQueryAttention')).toBe(false);
  });

  test('external data is linked beside it', async () => {
    const model = tinyDecoder();
    const tensor = model.graph?.initializer?.find(({ name }) => name === 'lm_head.weight');
    const data = tensor?.rawData as Uint8Array;
    writeFileSync(path.join(folder, 'decoder.onnx_data'), data);
    if (tensor) setExternal(tensor, { location: 'decoder.onnx_data', offset: 0, length: data.length });
    const target = path.join(folder, 'packed', 'other.onnx');
    await run(save(model), '--out', target);
    expect(statSync(path.join(folder, 'packed', 'decoder.onnx_data')).ino).toBe(statSync(path.join(folder, 'decoder.onnx_data')).ino);
    await (await ort.InferenceSession.create(target)).release();
  });

  test('nothing is written over, nothing without its weights, and nothing half rewritten', async () => {
    const file = save(tinyDecoder());
    expect((await run(file, '--out', file)).error).toContain(`${file} exists`);
    const out = path.join(folder, 'packed');
    expect((await run(save(gemma('q8'), 'gemma.onnx'), '--out', out)).error).toContain('is missing');
    expect((await run(save(tinyDecoder({ bias: 'foreign' }), 'foreign.onnx'), '--out', out)).code).toBe(2);
    expect(() => statSync(path.join(out, 'gemma.onnx'))).toThrow();
    expect(() => statSync(path.join(out, 'foreign.onnx'))).toThrow();
  });
});

test.each([
  [['/nowhere'], "'/nowhere' does not exist"],
  [[], '<model> is missing'],
  [['--provider', 'cuda'], '--provider must be one of cpu, webgpu, wasm'],
])('complaint about %j', async (args, message) => {
  const said = await run(...(args[0]?.startsWith('--') ? [save(tinyDecoder()), ...args] : args));
  expect(said.error).toContain(message);
  expect(said.code).toBe(2);
});
