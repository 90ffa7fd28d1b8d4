// What node does with memory: JSON, strings, buffers, typed arrays, worker_threads that hand messages over.
// Prints the same everywhere.
const { Worker, isMainThread, parentPort, workerData } = require("worker_threads");
const crypto = require("crypto");
const zlib = require("zlib");

const digest = (data) => crypto.createHash("sha256").update(data).digest("hex");
const lcg = (seed) => (n) => (seed = (seed * 1103515245 + 12345) % 2147483648) % n;

function work(seed) {
    const random = lcg(seed);
    const document = {};
    for (let i = 0; i < 8000; i++) {
        const list = Array.from({ length: random(20) }, () => random(1000));
        document[`key${random(100000)}`] = { list, text: "v".repeat(random(90)), i };
    }
    const text = JSON.stringify(document);
    const again = JSON.stringify(JSON.parse(text));
    const packed = zlib.deflateSync(text, { level: 6 });
    const buffers = [];
    for (let i = 0; i < 2000; i++) buffers.push(Buffer.alloc(random(20000), i & 255));
    const map = new Map();
    for (let i = 0; i < 50000; i++) map.set(`k${random(20000)}`, (map.get(`k${i}`) || 0) + i);
    const same = zlib.inflateSync(packed).toString() === text;
    return [text === again, digest(again), same, digest(Buffer.concat(buffers)), map.size].join(" ");
}

if (isMainThread) {
    console.log(work(1));
    const done = [];
    let left = 6;
    for (let id = 0; id < 6; id++) {
        const worker = new Worker(__filename, { workerData: id });
        worker.on("message", (message) => {
            if (message.reply) worker.postMessage(message.buffer, [message.buffer.buffer]);
            else done[id] = message.result;
        });
        worker.on("exit", (code) => {
            done[id] += ` exit ${code}`;
            if (--left === 0) console.log(done.join("\n"));
        });
    }
} else {
    let turns = 0;
    parentPort.on("message", (buffer) => {
        buffer[0]++;
        if (++turns === 200) {
            parentPort.postMessage({ result: `${workerData}: ${work(workerData + 2)} ${buffer[0]}` });
            parentPort.close();
        } else parentPort.postMessage({ reply: true, buffer }, [buffer.buffer]);
    });
    parentPort.postMessage({ reply: true, buffer: new Uint8Array(50000) });
}
