/** Converted folders in stock transformers.js, and the command line as its users call it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { AutoModelForImageTextToText, env, LogLevel, Tensor } from '@huggingface/transformers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { convertCheckpoint, type Dtype, writeRandomModel } from '../src/convert/index.ts';
import { difference, FIXTURES, KINDS, readGolden } from './support/converted.ts';

const ROOT = path.resolve(import.meta.dirname, '..');
const CLI = path.join(ROOT, 'src/cli/main.ts');

let folder: string;
beforeAll(() => {
  env.logLevel = LogLevel.ERROR;
  env.allowRemoteModels = false;
  folder = mkdtempSync(path.join(tmpdir(), 'attentionpack-stock-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Inputs {
  readonly input_ids: Tensor;
  readonly attention_mask: Tensor;
  readonly pixel_values: Tensor;
}

function goldenInputs(kind: string): Inputs {
  const { inputIds, pixels } = readGolden(kind);
  const dims = [1, inputIds.length];
  return {
    input_ids: new Tensor('int64', BigInt64Array.from(inputIds.map(BigInt)), dims),
    attention_mask: new Tensor('int64', new BigInt64Array(inputIds.length).fill(1n), dims),
    pixel_values: new Tensor('float32', pixels, [2, 3, 24, 24]),
  };
}

function argmax(values: Float32Array): number {
  return values.indexOf(Math.max(...values));
}

describe.each(KINDS)('%s in stock transformers.js', (kind) => {
  it.each(['fp32', 'fp16', 'q8', 'q4', 'q4f16'] as const)('loads as %s and generates from images', async (dtype: Dtype) => {
    const out = path.join(folder, kind);
    await convertCheckpoint({ from: path.join(FIXTURES, kind), out, dtype });
    const model = await AutoModelForImageTextToText.from_pretrained(out, { dtype });
    const inputs = goldenInputs(kind);
    const { logits } = (await model(inputs)) as { logits: Tensor };
    const golden = readGolden(kind);
    const vocab = golden.logits.length / golden.inputIds.length;
    expect(logits.dims).toEqual([1, golden.inputIds.length, vocab]);
    const sequences = (await model.generate({ ...inputs, max_new_tokens: 4, do_sample: false } as never)) as Tensor;
    expect(sequences.dims).toEqual([1, golden.inputIds.length + 4]);
    if (dtype === 'fp32') {
      const found = difference(logits.data as Float32Array, golden.logits);
      expect(found.max, JSON.stringify(found)).toBeLessThan(1e-4);
      expect(Number(sequences.data[golden.inputIds.length])).toBe(argmax(golden.logits.subarray(-vocab)));
    }
    await model.dispose();
  });
});

describe('random models', () => {
  it('write a cut decoder with finite logits in the folder layout', async () => {
    const out = path.join(folder, 'random');
    const report = await writeRandomModel({ shape: 'smol-135m', layers: 2, out, dtype: 'q4', inlineMaxBytes: 1e6 });
    expect(report.models.map(({ file, dataFiles }) => [file, dataFiles])).toEqual([
      ['vision_encoder_q4.onnx', 0],
      ['embed_tokens_q4.onnx', 1],
      ['decoder_model_merged_q4.onnx', 1],
    ]);
    const model = await AutoModelForImageTextToText.from_pretrained(out, { dtype: 'q4' });
    const input_ids = new Tensor('int64', BigInt64Array.from([5n, 6n, 7n]), [1, 3]);
    const attention_mask = new Tensor('int64', new BigInt64Array(3).fill(1n), [1, 3]);
    const { logits } = (await model({ input_ids, attention_mask })) as { logits: Tensor };
    const values = logits.data as Float32Array;
    expect(values.every(Number.isFinite)).toBe(true);
    expect(Math.hypot(...values.subarray(0, 49152)) / Math.sqrt(49152)).toBeGreaterThan(0.1);
    await model.dispose();
  });
});

describe('attentionpack convert', () => {
  const command = (...args: string[]): ChildProcess => spawn(process.execPath, ['--import', 'tsx', CLI, 'convert', ...args], { cwd: ROOT });
  const finished = (child: ChildProcess): Promise<{ code: number | null; stdout: string; stderr: string }> =>
    new Promise((resolve) => {
      let [stdout, stderr] = ['', ''];
      child.stdout?.on('data', (chunk) => (stdout += chunk));
      child.stderr?.on('data', (chunk) => (stderr += chunk));
      child.on('close', (code) => resolve({ code, stdout, stderr }));
    });

  it('converts and ends with one JSON line', async () => {
    const out = path.join(folder, 'cli');
    const { code, stdout } = await finished(command(path.join(FIXTURES, KINDS[0]), '--out', out, '--dtype', 'q8', '--json'));
    expect(code).toBe(0);
    expect(JSON.parse(stdout.trim().split('\n').at(-1) ?? '')).toMatchObject({ out, dtype: 'q8' });
    expect(existsSync(path.join(out, 'onnx', 'decoder_model_merged_quantized.onnx'))).toBe(true);
  });

  it('says in one line what is wrong and exits with 2', async () => {
    const { code, stderr } = await finished(command(path.join(folder, 'nowhere'), '--out', path.join(folder, 'cli2')));
    expect(code).toBe(2);
    expect(stderr.trim().split('\n')).toHaveLength(1);
    expect(stderr).toContain('no such file');
  });

  it('leaves nothing behind when it is interrupted', async () => {
    const child = command('--random', 'mha-1.7b', '--dtype', 'fp32', '--out', path.join(folder, 'interrupted'));
    child.stderr?.once('data', () => child.kill('SIGINT')); // the first line of progress
    const { code, stderr } = await finished(child);
    expect(code).toBe(130);
    expect(stderr).toContain('nothing was written');
    expect(readdirSync(folder).filter((name) => name.startsWith('interrupted'))).toEqual([]);
  });
});
