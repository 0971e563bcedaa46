/** Documents whose figures come from bench/results, relative to the package. */
export const DOCUMENTS = ['README.md', 'models/pack-mha/README.md', 'models/pack-gqa/README.md'] as const;
