import type { Backend, ExportCatalog, ExportFacts } from './backend.js';

/** A catalog with one device that is open already and stays so; it is listed as the default export. */
export function catalogOfOne(backend: Backend, description = ''): ExportCatalog {
  const facts = factsOf(backend, description);
  return {
    list: () => Promise.resolve([{ name: '', description }]),
    info: (name) => Promise.resolve(name === '' ? facts : null),
    open: (name) =>
      Promise.resolve(name === '' ? { backend, close: () => Promise.resolve() } : null),
  };
}

/** What a backend says of itself. */
export function factsOf(backend: Backend, description: string): ExportFacts {
  const { bytes, readOnly, fastZeroBytes, contexts } = backend;
  return {
    bytes,
    readOnly,
    description,
    ...(fastZeroBytes === undefined ? {} : { fastZeroBytes }),
    ...(contexts === undefined ? {} : { contexts }),
  };
}
