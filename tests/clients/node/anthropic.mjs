// The official `@anthropic-ai/sdk` of Node: text, stream, tool round trip, the class of an error.
import Anthropic from "@anthropic-ai/sdk";

const model = process.env.MODEL;
const client = new Anthropic({ baseURL: process.env.BASE_URL, apiKey: "any", maxRetries: 0 });
const tools = [{ name: "get_weather", input_schema: { type: "object", properties: { city: { type: "string" } } } }];
const asked = (messages, more = {}) => ({ model, messages, max_tokens: 64, ...more });
const said = [{ role: "user", content: "hi" }];

const text = (await client.messages.create(asked(said))).content[0].text;
const streamed = await client.messages.stream(asked(said)).finalText();
const counted = await client.messages.countTokens({ model, messages: said });
if (!(counted.input_tokens > 0)) throw new Error("counted " + JSON.stringify(counted));
const question = [{ role: "user", content: "Weather?" }];
const called = await client.messages.stream(asked(question, { tools })).finalMessage();
const use = called.content.find((block) => block.type === "tool_use");
if (use.input.city !== "Paris") throw new Error("called with " + JSON.stringify(use));
const history = [
  ...question,
  { role: "assistant", content: called.content },
  { role: "user", content: [{ type: "tool_result", tool_use_id: use.id, content: "18 C" }] },
];
const after = (await client.messages.create(asked(history, { tools }))).content[0].text;
const unknown = await client.models.retrieve("nobody/knows").catch((error) => error.status);
console.log(JSON.stringify({ text, streamed, after, unknown }));
