// @ts-check
import tseslint from 'typescript-eslint';

// Clock, randomness, sockets and files are reached only through `Env`, so that a simulation can own them.
const edgeModules = ['node:fs', 'node:net', 'node:tls', 'node:dgram', 'node:fs/promises'];

export default tseslint.config(
  { ignores: ['**/dist/**', '**/node_modules/**', '**/.tap/**', 'eslint.config.js'] },
  ...tseslint.configs.strictTypeChecked,
  {
    languageOptions: {
      parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname },
    },
    rules: {
      '@typescript-eslint/restrict-template-expressions': [
        'error',
        { allowNumber: true, allowBoolean: true },
      ],
      '@typescript-eslint/no-unnecessary-condition': [
        'error',
        { allowConstantLoopConditions: true },
      ],
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_' }],
      eqeqeq: 'error',
    },
  },
  {
    // tap waits for the stories it was given; a story without awaits ends with its function.
    files: ['**/*.test.ts', '**/*.suite.ts'],
    rules: {
      '@typescript-eslint/require-await': 'off',
      '@typescript-eslint/no-floating-promises': [
        'error',
        {
          allowForKnownSafeCalls: [{ from: 'package', package: '@tapjs/test', name: 'test' }],
        },
      ],
    },
  },
  {
    files: [
      'core/src/**/*.ts',
      'daemon/src/**/*.ts',
      'master/src/**/*.ts',
      'gateway-nbd/src/**/*.ts',
    ],
    ignores: ['core/src/env/real-*.ts', '**/*.test.ts'],
    rules: {
      'no-restricted-imports': ['error', { paths: edgeModules }],
      'no-restricted-globals': ['error', 'setTimeout', 'setInterval', 'Date'],
      'no-restricted-properties': ['error', { object: 'Math', property: 'random' }],
    },
  },
);
