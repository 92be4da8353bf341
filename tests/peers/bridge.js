// adbkit's TCP-USB bridge in front of the phone that an adb server knows as SERIAL:
//   node bridge.js ADBKIT SERIAL ADB_SERVER_PORT authorized|unauthorized
// It prints the port that it listens on, and ends with its standard input: with the tests.
'use strict';

const [adbkit, serial, port, answer] = process.argv.slice(2);
const { Adb } = require(adbkit);

// A server that is gone is not started anew: there is no such program.
const client = Adb.createClient({ host: '127.0.0.1', port: Number(port), bin: '/nonexistent/adb' });
client.on('error', console.error);

const knownPublicKeys = [];
const auth = (key) => {
  // A question on the screen that nobody answers. Refusing would hang up, and that is "offline".
  if (answer !== 'authorized') return new Promise(() => {});
  knownPublicKeys.push(key);
  return Promise.resolve();
};
const bridge = client.createTcpUsbBridge(serial, { auth, knownPublicKeys });
bridge.on('error', console.error);
bridge.on('listening', () => console.log(bridge.server.address().port));
bridge.listen(0, '127.0.0.1');

process.stdin.on('end', () => process.exit()).resume();
