/** Writing an answer. */
import type { IncomingMessage, ServerResponse } from 'node:http';

export function sendJson(response: ServerResponse, status: number, value: unknown): void {
  send(response, status, 'application/json; charset=utf-8', `${JSON.stringify(value)}\n`);
}

/** Node leaves the body of an answer to HEAD away. */
export function send(
  response: ServerResponse,
  status: number,
  type: string,
  body: string | Buffer,
): void {
  response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(body) });
  response.end(body);
}

/** The rest of a body that nobody wants is not read: after the answer the connection ends. */
export function closeIfUnread(request: IncomingMessage, response: ServerResponse): void {
  const { headers, complete } = request;
  const hasBody = 'transfer-encoding' in headers || Number(headers['content-length'] ?? 0) > 0;
  if (hasBody && !complete) response.setHeader('connection', 'close');
}
