/** A request to `/api/v1`: finds the operation, and checks all that has to be so before it runs. */
import type { IncomingMessage } from 'node:http';
import type { ApiAnswer, ApiMethod, ApiOperation, ApiRoute } from './api-routes.js';
import { checkToken } from './bearer-token.js';
import { HttpFailure } from './http-failure.js';
import { JsonBody, readJsonBody } from './json-body.js';
import { queryText, type RequestPath } from './request-path.js';

export interface ApiRules {
  readonly routes: readonly ApiRoute[];
  readonly token: Buffer | null;
  readonly bodyBytesMax: number;
}

/**
 * @param path - Its segments after `/api/v1`.
 * @throws HttpFailure, StoreError
 */
export async function answerApi(
  request: IncomingMessage,
  { segments, query }: RequestPath,
  { routes, token, bodyBytesMax }: ApiRules,
): Promise<ApiAnswer> {
  const route = routes.find(({ path }) => matches(path, segments));
  if (route === undefined) throw new HttpFailure(404, 'E_NOT_FOUND', 'The API has no such path');
  const operation = operationOf(route, request.method ?? '');
  if (operation.needsToken) checkToken(request.headers.authorization, token);
  for (const name of query.keys())
    if (!operation.query.includes(name))
      throw new HttpFailure(
        400,
        'E_INVALID',
        `The query parameter ${JSON.stringify(name.slice(0, 60))} is not known here`,
      );
  const hasBody = request.method === 'POST' || request.method === 'PATCH';
  return operation.run({
    name: segments[route.path.indexOf('*')] ?? '',
    query,
    isDryRun: isDryRun(query.get('dryRun')),
    body: hasBody ? await readJsonBody(request, bodyBytesMax) : new JsonBody({}),
  });
}

/** The error for a method that a path does not have. */
export function wrongMethod(allowed: readonly string[]): HttpFailure {
  const allow = allowed.flatMap((method) => (method === 'GET' ? ['GET', 'HEAD'] : [method]));
  return new HttpFailure(405, 'E_INVALID', `This path has ${allow.join(', ')}`, {
    allow: allow.join(', '),
  });
}

function matches(path: readonly string[], segments: readonly string[]): boolean {
  return (
    path.length === segments.length &&
    path.every((part, index) => (part === '*' ? segments[index] !== '' : part === segments[index]))
  );
}

function operationOf({ operations }: ApiRoute, method: string): ApiOperation {
  const wanted = method === 'HEAD' ? 'GET' : method;
  if (!Object.hasOwn(operations, wanted)) throw wrongMethod(Object.keys(operations));
  const operation = operations[wanted as ApiMethod]; // it is a key of theirs
  if (operation === undefined) throw wrongMethod(Object.keys(operations));
  return operation;
}

/** Whoever misspells it must not find that it was no dry run. */
function isDryRun(value: string | undefined): boolean {
  const text = value === undefined ? 'false' : queryText(value);
  if (text !== 'true' && text !== 'false')
    throw new HttpFailure(400, 'E_INVALID', 'dryRun is true or false');
  return text === 'true';
}
