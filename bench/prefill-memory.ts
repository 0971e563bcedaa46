/**
 * `npm run bench -- memory`: the most a process holds while it reads many pictures, against what it holds once they are packed. Linux only: the kernel keeps
 * the peak, and resets it on request (proc(5), clear_refs).
 */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { PackedCache } from '../src/cache.ts';
import { EMBEDDED_MODEL } from '../src/cli/embedded.ts';
import { dtypeOption, loadPacked, readImages } from '../src/cli/models.ts';
import type { CacheOptions } from '../src/options.ts';
import { prompt, question } from '../src/prompt.ts';

export interface PrefillMemory {
  readonly images: number;
  readonly tokens: number;
  /** Bytes of the process: once the model is loaded and warm, at most while the pictures were read, and after. */
  readonly loadedBytes: number;
  readonly peakBytes: number;
  readonly finalBytes: number;
  readonly cacheBytes: number;
  /** Bytes of keys and values of one chunk of tokens, dense. */
  readonly chunkBytes: number;
  /** Peak over final bytes and a chunk. */
  readonly ratio: number;
}

const CHUNK = 256;

function status(field: 'VmHWM' | 'VmRSS'): number {
  const [, kilobytes] = new RegExp(`${field}:\\s+(\\d+) kB`).exec(readFileSync('/proc/self/status', 'utf8')) ?? [];
  return 1024 * Number(kilobytes);
}

/** In this process, which should be a fresh one. */
export async function measurePrefillMemory(numImages: number, options: CacheOptions): Promise<PrefillMemory> {
  const folder = path.join(EMBEDDED_MODEL, 'demo');
  const files = Array.from({ length: 8 }, (_, i) => path.join(folder, `0${i + 1}.${[1, 4, 7].includes(i) ? 'jpg' : 'png'}`));
  const few = await readImages(files);
  const { packed, processor } = await loadPacked(EMBEDDED_MODEL, { ...dtypeOption(EMBEDDED_MODEL, undefined), ...options, chunk: CHUNK });
  const read = async (images: typeof few): Promise<{ tokens: number; cacheBytes: number }> => {
    await using cache = new PackedCache(packed);
    const inputs = await prompt(processor, [question('name image 1', images.length)], images);
    await packed.generate({ ...inputs, past_key_values: cache, max_new_tokens: 1 } as never);
    return { tokens: cache.get_seq_length(), cacheBytes: cache.bytes };
  };
  await read(few);
  globalThis.gc?.();
  writeFileSync('/proc/self/clear_refs', '5');
  const loadedBytes = status('VmRSS');
  const { tokens, cacheBytes } = await read(Array.from({ length: numImages }, (_, i) => few[i % few.length] as (typeof few)[number]));
  const [peakBytes, finalBytes] = [status('VmHWM'), status('VmRSS')];
  const { text_config: text } = packed.config as unknown as {
    text_config: Record<'num_hidden_layers' | 'num_key_value_heads' | 'head_dim', number>;
  };
  const chunkBytes = CHUNK * 2 * 4 * text.num_hidden_layers * text.num_key_value_heads * text.head_dim;
  await packed.dispose();
  return {
    images: numImages,
    tokens,
    loadedBytes,
    peakBytes,
    finalBytes,
    cacheBytes,
    chunkBytes,
    ratio: peakBytes / (finalBytes + chunkBytes),
  };
}
