/** What a figure was measured on: cores, versions, commit, and how fast memory and matrix products are through ONNX Runtime itself. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import { DataType, encodeModel, GraphEditor, importOpset, type Model } from '../src/onnx/index.ts';
import { InferenceSession, Tensor } from '../src/ort.ts';

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryBytes: number;
  readonly node: string;
  readonly onnxruntime: string;
  readonly transformers: string;
  /** Short hash; `+` where the working tree differs. */
  readonly commit: string;
  /** Tasks ready to run over the last minute, before the benchmark added its own: a busy machine measures nothing well. */
  readonly load: number;
  readonly threads: number;
  /** Bytes per second a large tensor is read with: the better of a sum and a maximum. */
  readonly bandwidth: number;
  /** Floating-point operations per second of a large float32 product. */
  readonly gemmRate: number;
}

const READ_ELEMENTS = 1 << 26; // 256 MiB, well beyond any cache
const GEMM_SIZE = 1536;
/** Many: the fastest of them is what the machine can do, even if others use it too. */
const REPETITIONS = 25;

export async function readMachine(threads: number): Promise<Machine> {
  const load = os.loadavg()[0] ?? 0;
  const row = new Tensor('float32', new Float32Array(READ_ELEMENTS).fill(0.5), [READ_ELEMENTS]);
  const sumMs = await fastest('ReduceSum', [row], threads);
  const maxMs = await fastest('ReduceMax', [row], threads);
  const square = new Tensor('float32', new Float32Array(GEMM_SIZE ** 2).fill(0.5), [GEMM_SIZE, GEMM_SIZE]);
  const gemmMs = await fastest('MatMul', [square, square], threads);
  return {
    cpu: os.cpus()[0]?.model ?? 'unknown',
    cores: os.availableParallelism(),
    memoryBytes: os.totalmem(),
    node: process.version,
    onnxruntime: versionOf('onnxruntime-node'),
    transformers: versionOf('@huggingface/transformers'),
    commit: commit(),
    load,
    threads,
    bandwidth: (4 * READ_ELEMENTS) / (Math.min(sumMs, maxMs) / 1000),
    gemmRate: (2 * GEMM_SIZE ** 3) / (gemmMs / 1000),
  };
}

/** Milliseconds of the fastest of several runs of one operator. */
async function fastest(op: string, inputs: readonly Tensor[], threads: number): Promise<number> {
  const graph = { name: op, node: [] };
  const editor = new GraphEditor(graph);
  const names = inputs.map((_, i) => `input_${i}`);
  for (const [i, name] of names.entries()) editor.addInput(name, DataType.FLOAT, [...(inputs[i]?.dims ?? [])]);
  const isReduction = op.startsWith('Reduce');
  editor.append(op, names, ['output'], isReduction ? { attributes: { keepdims: 0 } } : {});
  editor.addOutput('output', DataType.FLOAT, isReduction ? [] : ['rows', 'columns']);
  const model: Model = { irVersion: 8, producerName: 'attentionpack', graph };
  importOpset(model, '', 17);
  const session = await InferenceSession.create(encodeModel(model), { intraOpNumThreads: threads });
  const feeds = Object.fromEntries(names.map((name, i) => [name, inputs[i] as Tensor]));
  let best = Number.POSITIVE_INFINITY;
  for (let i = 0; i < REPETITIONS; i++) {
    const start = performance.now();
    await session.run(feeds);
    best = Math.min(best, performance.now() - start);
  }
  await session.release();
  return best;
}

/** The version of a package as transformers.js resolves it. */
function versionOf(name: string): string {
  const require = createRequire(createRequire(import.meta.url).resolve('@huggingface/transformers'));
  // Not every package exports its package.json; it lies above the entry file.
  for (let folder = require.resolve(name); ; ) {
    const parent = folder.slice(0, folder.lastIndexOf('/'));
    if (parent === folder || !parent) return 'unknown';
    folder = parent;
    try {
      const found = JSON.parse(readFileSync(`${folder}/package.json`, 'utf8')) as { name?: string; version?: string };
      if (found.name === name && found.version) return found.version;
    } catch {
      // no package.json here; look one folder up
    }
  }
}

function commit(): string {
  const git = (...args: string[]): string => execFileSync('git', args, { cwd: import.meta.dirname, encoding: 'utf8' }).trim();
  try {
    return git('rev-parse', '--short', 'HEAD') + (git('status', '--porcelain', '--', '../src', '.') ? '+' : '');
  } catch {
    return 'unknown';
  }
}

/** Bytes that can be used without swapping: free and reclaimable. */
export function availableBytes(): number {
  try {
    const kib = /^MemAvailable:\s+(\d+) kB/m.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1];
    if (kib) return Number(kib) * 1024;
  } catch {
    // not Linux
  }
  return os.freemem();
}
