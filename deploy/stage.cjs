// The environment that a stage is. A stage that nobody has thought of must open nothing: it is refused.
const ENVIRONMENTS = ["production", "preview"];

module.exports.environment = async ({ resolveVariable }) => {
  const stage = await resolveVariable("sls:stage");
  if (!ENVIRONMENTS.includes(stage)) {
    throw new Error(`--stage: "${stage}" is not supported. Use ${ENVIRONMENTS.join(" or ")}.`);
  }
  return stage;
};
