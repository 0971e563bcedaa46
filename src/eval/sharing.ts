/** Lets models of the same weights share what comes before the decoder, so that pictures are encoded once whatever the caches. */
import type { PreTrainedModel } from '@huggingface/transformers';
import type { InferenceSession, Tensor } from '../ort.ts';

/** A session as transformers.js sees it. */
type Session = Pick<InferenceSession, 'inputNames' | 'outputNames' | 'run' | 'release'> & { config?: unknown };

/** Sessions that read text and pictures; their outputs are the same whatever becomes of the cache. */
const ENCODERS = ['vision_encoder', 'embed_tokens'] as const;

const sessionsOf = (model: PreTrainedModel): Record<string, Session | undefined> =>
  model.sessions as unknown as Record<string, Session | undefined>;

/** Gives `model` a vision encoder that remembers what it saw, to be shared by {@link shareEncoders}. */
export function rememberPictures(model: PreTrainedModel): void {
  const sessions = sessionsOf(model);
  if (sessions.vision_encoder) sessions.vision_encoder = remembering(sessions.vision_encoder);
}

/** Frees the encoders of `model` and lets it use those of `owner`, which must outlive it. */
export async function shareEncoders(owner: PreTrainedModel, model: PreTrainedModel): Promise<void> {
  for (const name of ENCODERS) {
    const [own, shared] = [sessionsOf(model)[name], sessionsOf(owner)[name]];
    if (!own || !shared) continue;
    sessionsOf(model)[name] = borrowed(shared);
    await own.release();
  }
}

/** The same session, which only its owner releases. */
function borrowed(session: Session): Session {
  return {
    inputNames: session.inputNames,
    outputNames: session.outputNames,
    config: session.config,
    run: (feeds: never) => session.run(feeds),
    release: async () => {},
  };
}

/** Runs once for each tensor of pictures; what came out is kept as long as that tensor is. */
function remembering(session: Session): Session {
  const seen = new WeakMap<Tensor, ReturnType<Session['run']>>();
  return {
    inputNames: session.inputNames,
    outputNames: session.outputNames,
    config: session.config,
    async run(feeds: Readonly<Record<string, Tensor>>) {
      const { pixel_values: pixels } = feeds;
      if (!pixels) return session.run(feeds);
      const known = seen.get(pixels) ?? session.run(feeds);
      seen.set(pixels, known);
      // transformers.js puts its own tensors into what a session returns, so everyone gets a copy of the list.
      return { ...(await known) };
    },
    release: () => session.release(),
  };
}
