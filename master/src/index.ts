// The master (registration, storage map, keys) is built in its own change; the package holds its place in the layout.
export {};
