// The official `openai` package of Node: text, stream, tool round trip, the class of an error.
import OpenAI from "openai";

const model = process.env.MODEL;
const client = new OpenAI({ baseURL: process.env.BASE_URL + "/v1", apiKey: "any", maxRetries: 0 });
const tools = [{ type: "function", function: { name: "get_weather", parameters: { type: "object", properties: { city: { type: "string" } } } } }];
const ask = (messages, more = {}) => client.chat.completions.create({ model, messages, max_tokens: 64, ...more });
const said = [{ role: "user", content: "hi" }];

const text = (await ask(said)).choices[0].message.content;
let streamed = "";
for await (const chunk of await ask(said, { stream: true, stream_options: { include_usage: true } })) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
}
const responded = await client.responses.create({ model, input: "hi", max_output_tokens: 64 });
if (responded.output_text !== text) throw new Error("the Responses API says " + responded.output_text);
const called = (await ask([{ role: "user", content: "Weather?" }], { tools })).choices[0].message;
const result = { role: "tool", tool_call_id: called.tool_calls[0].id, content: "18 C" };
const after = (await ask([{ role: "user", content: "Weather?" }, called, result], { tools })).choices[0].message.content;
const unknown = await client.models.retrieve("nobody/knows").catch((error) => error.status);
console.log(JSON.stringify({ text, streamed, after, unknown }));
