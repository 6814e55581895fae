// An OpenID provider with Okta's claim names (cid, scp, groups, uid), for clients that are agents.
//
//   node server.mjs --host ADDRESS --port PORT --keys FILE --clients NAME,NAME…
//
// Prints {"issuer": …} when it listens. FILE gets its private keys, so that a scenario can make a
// token that is wrong in one way only. Each client's secret is its name followed by "-secret",
// unless it is given another proof: --auth NAME=post, NAME=RS256 or NAME=ES256 (private_key_jwt, with
// the key in DIRECTORY/NAME.pem and NAME.jwk of --client-keys DIRECTORY).
//
//   curl -su billing-bot:billing-bot-secret -d grant_type=client_credentials -d scope=orders URL/token
//
// Any client may also exchange a SAML assertion whose text is <Assertion>NAME</Assertion>.
//
// The provider keeps no JWT that it grants, so by itself it could neither introspect nor revoke one; what
// it granted is remembered here, and its own endpoints find it. The client "hoop-asks" is for introspection.
//
// For tests of revocation, POST /test/revoke?client=NAME ends all tokens of that client, GET /test/questions
// says how often introspection was asked, and POST /test/fault?status=N&client=NAME lets introspection
// answer N (0: not at all, until it is called again without a status).
//
// People sign in at the console whose address is --console, as the client "hoop-console": --people is a
// list of {"login": …, "groups": […]}, and whoever writes such a login into the page is that person.
//
// For tests of rotation, POST /test/rotate?alg=ALG withdraws all keys and signs with a new one
// (RS256, PS256, ES256, ES384, EdDSA); it answers with the new key's id.

import { mkdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { parseArgs } from "node:util";

import { exportJWK, exportPKCS8, generateKeyPair } from "jose";
import { errors, Provider } from "oidc-provider";

// Standard output is for one line: whoever reads it closes it then.
console.info = console.error;

const SAML = "urn:ietf:params:oauth:grant-type:saml2-bearer";

const { values: options } = parseArgs({
  options: {
    host: { type: "string", default: "127.0.0.1" },
    port: { type: "string", default: "0" },
    keys: { type: "string" },
    clients: { type: "string", default: "billing-bot" },
    auth: { type: "string", default: "" },
    "client-keys": { type: "string", default: "." },
    audience: { type: "string", default: "api://hoop" },
    lifetime: { type: "string", default: "86400" },
    console: { type: "string", default: "" },
    people: { type: "string", default: "[]" },
  },
});

let keys = await Promise.all([makeKey("RS256", "rsa-1"), makeKey("ES256", "ec-1")]);
writeKeys();
const auth = Object.fromEntries(
  options.auth
    .split(",")
    .filter(Boolean)
    .map((one) => one.split("=")),
);
const clients = await Promise.all([...options.clients.split(","), "hoop-asks"].map(client));
const people = JSON.parse(options.people);
if (options.console) {
  clients.push({
    client_id: "hoop-console",
    client_secret: "hoop-console-secret",
    grant_types: ["authorization_code"],
    response_types: ["code"],
    redirect_uris: [`${options.console}/sign-in/callback`],
  });
}

// jti → what was granted, through every rotation of keys.
const granted = new Map();
let questions = 0;
let fault;

// The address is part of the issuer's name, and the port is known only once it listens.
const server = createServer();
await new Promise((resolve) => server.listen(Number(options.port), options.host, resolve));
const issuer = `http://${options.host}:${server.address().port}`;
let current = provider(issuer);
let answer = current.callback();
let rotations = 0;
server.on("request", (request, response) => {
  const url = new URL(request.url, issuer);
  if (request.method === "POST" && url.pathname === "/test/rotate") {
    rotate(url.searchParams.get("alg") ?? "RS256").then((kid) => response.end(kid));
  } else if (request.method === "POST" && url.pathname === "/test/revoke") {
    response.end(String(revoke(url.searchParams.get("client"))));
  } else if (request.method === "POST" && url.pathname === "/test/fault") {
    fault = url.searchParams.get("status");
    response.end();
  } else if (url.pathname.startsWith("/interaction/")) {
    interact(request, response);
  } else if (url.pathname === "/test/questions") {
    response.end(String(questions));
  } else if (url.pathname === "/token/introspection" && fault) {
    questions += 1;
    if (fault !== "0") {
      response.writeHead(Number(fault)).end();
    }
  } else {
    questions += url.pathname === "/token/introspection" ? 1 : 0;
    answer(request, response);
  }
});
console.log(JSON.stringify({ issuer }));

// The provider's own page: whoever is named there is signed in.
async function interact(request, response) {
  if (request.method !== "POST") {
    response.setHeader("content-type", "text/html; charset=utf-8");
    response.end(
      '<!DOCTYPE html><html lang="en"><title>Sign in</title><link rel="icon" href="data:,"><form method="post">' +
        '<label>Login <input name="login"></label><button>Sign in</button></form></html>',
    );
    return;
  }
  const parts = [];
  for await (const part of request) {
    parts.push(part);
  }
  const login = new URLSearchParams(Buffer.concat(parts).toString()).get("login");
  const result = people.some((person) => person.login === login)
    ? { login: { accountId: login } }
    : { error: "access_denied", error_description: "nobody is called so" };
  await current.interactionFinished(request, response, result, { mergeWithLastSubmission: false });
}

function account(login) {
  const person = people.find((person) => person.login === login);
  const claims = { sub: login, email: login, email_verified: true, groups: person?.groups ?? [] };
  return person && { accountId: login, claims: async () => claims };
}

// Nobody is asked for consent: the provider's operator gave it.
async function grant({ oidc }) {
  const grant = new oidc.provider.Grant({
    clientId: oidc.client.clientId,
    accountId: oidc.session.accountId,
  });
  grant.addOIDCScope("openid email groups");
  await grant.save();
  return grant;
}

function revoke(client) {
  const before = granted.size;
  for (const [jti, token] of granted) {
    if (token.clientId === client) {
      granted.delete(jti);
    }
  }
  return before - granted.size;
}

// Lets the provider find the JWTs that it granted.
function remember(provider) {
  const { ClientCredentials } = provider;
  const find = ClientCredentials.find.bind(ClientCredentials);
  ClientCredentials.find = async (value, ...more) => {
    const payload = value.split(".")[1];
    if (!payload) {
      return find(value, ...more);
    }
    const { jti } = JSON.parse(Buffer.from(payload, "base64url").toString());
    return granted.get(jti);
  };
}

async function rotate(alg) {
  rotations += 1;
  keys = [await makeKey(alg, `rotated-${rotations}`)];
  writeKeys();
  current = provider(issuer);
  answer = current.callback();
  return keys[0].kid;
}

function writeKeys() {
  if (options.keys) {
    writeFileSync(options.keys, JSON.stringify({ keys }), { mode: 0o600 });
  }
}

async function makeKey(alg, kid) {
  const { privateKey } = await generateKeyPair(alg, { extractable: true });
  return { ...(await exportJWK(privateKey)), alg, kid, use: "sig" };
}

function provider(issuer) {
  const made = new Provider(issuer, {
    clients,
    jwks: { keys },
    clientDefaults: { id_token_signed_response_alg: keys[0].alg },
    enabledJWA: { idTokenSigningAlgValues: [...new Set(keys.map((key) => key.alg))] },
    scopes: ["openid", "email", "groups", "orders"],
    claims: { openid: ["sub"], email: ["email", "email_verified"], groups: ["groups"] },
    conformIdTokenClaims: false,
    findAccount: (_context, login) => account(login),
    loadExistingGrant: grant,
    interactions: { url: (_context, interaction) => `/interaction/${interaction.uid}` },
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      // Like Okta's: any client that proves itself may ask about any token.
      introspection: { enabled: true, allowedPolicy: () => true },
      revocation: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => options.audience,
        useGrantedResource: () => true,
        getResourceServerInfo: resource,
      },
    },
    formats: {
      customizers: {
        jwt: (_context, token, jwt) => {
          granted.set(jwt.payload.jti, token);
          token.destroy = async () => granted.delete(jwt.payload.jti);
        },
      },
    },
    extraTokenClaims: (_context, token) => ({
      cid: token.clientId,
      uid: token.clientId,
      scp: (token.scope ?? "").split(" ").filter(Boolean),
      groups: ["agents"],
    }),
  });
  made.registerGrantType(SAML, exchange, ["assertion", "scope"]);
  remember(made);
  return made;
}

function resource() {
  return {
    scope: "orders",
    audience: options.audience,
    accessTokenTTL: Number(options.lifetime),
    accessTokenFormat: "jwt",
    jwt: { sign: { alg: keys[0].alg } },
  };
}

async function exchange(context, next) {
  const { client, params, provider } = context.oidc;
  const assertion = Buffer.from(params.assertion ?? "", "base64url").toString();
  if (assertion !== `<Assertion>${client.clientId}</Assertion>`) {
    throw new errors.InvalidGrant("this assertion is not the client's");
  }
  const token = new provider.ClientCredentials({ client, scope: params.scope });
  token.resourceServer = new provider.ResourceServer(options.audience, resource());
  const access_token = await token.save();
  context.body = { access_token, expires_in: token.expiration, token_type: token.tokenType };
  await next();
}

async function client(name) {
  const usual = {
    client_id: name,
    grant_types: ["client_credentials", SAML],
    response_types: [],
    redirect_uris: [],
  };
  const how = auth[name] ?? "basic";
  if (how === "basic" || how === "post") {
    const secret = { client_secret: `${name}-secret` };
    return { ...usual, ...secret, token_endpoint_auth_method: `client_secret_${how}` };
  }
  return {
    ...usual,
    token_endpoint_auth_method: "private_key_jwt",
    token_endpoint_auth_signing_alg: how,
    jwks: { keys: [await clientKey(name, how)] },
  };
}

// Writes a client's private key in both forms and returns the public one.
async function clientKey(name, alg) {
  const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true });
  const folder = options["client-keys"];
  const named = { alg, kid: `${name}-key`, use: "sig" };
  const jwk = { ...(await exportJWK(privateKey)), ...named };
  mkdirSync(folder, { recursive: true });
  writeFileSync(`${folder}/${name}.jwk`, JSON.stringify(jwk), { mode: 0o600 });
  writeFileSync(`${folder}/${name}.pem`, await exportPKCS8(privateKey), { mode: 0o600 });
  return { ...(await exportJWK(publicKey)), ...named };
}
