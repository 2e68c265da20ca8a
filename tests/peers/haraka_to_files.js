// Haraka's queue: each mail becomes a file, its first line the envelope's recipients.
// Mail of a client that has logged in counts as outbound, and would be sent on.
const fs = require('node:fs');
const path = require('node:path');

exports.hook_queue = exports.hook_queue_outbound = function (next, connection) {
  const transaction = connection.transaction;
  const name = path.join(process.env.MAIL_FOLDER, transaction.uuid);
  const file = fs.createWriteStream(`${name}.part`);
  file.write(`${transaction.rcpt_to.map((each) => each.address()).join(' ')}\n`);
  file.once('close', () => {
    fs.renameSync(`${name}.part`, `${name}.eml`); // nobody reads half a mail
    next(OK);
  });
  transaction.message_stream.pipe(file);
};
