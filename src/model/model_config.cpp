#include "model/model_config.h"

#include "base/text.h"

namespace cohort {
namespace {

Rule activations() { return one_of({"none", "relu", "tanh", "sigmoid"}); }

Rule units_rule() {
  Rule rule;
  rule.text = "a whole number >= 1, or: classes";
  rule.check_text = [](const std::string& text) -> std::string {
    const auto number = parse_i64(text);
    if (text == "classes" || (number && *number >= 1)) return "";
    return "a whole number >= 1, or: classes";
  };
  return rule;
}

void bind_convolution(Binder& b, LayerConfig& c) {
  b.required("filters", c.filters, at_least(1), "Output channels.");
  if (c.kind == "conv1d") {
    b.required("width", c.width, at_least(1), "Steps that one output sees.");
  } else {
    b.required("kernel", c.kernel, at_least(1), "Height and width of the window, in pixels.");
    b.key("stride", c.stride, at_least(1), "Pixels between windows.");
    b.key("padding", c.padding, at_least(0), "Zeros added on every side.");
    b.key("groups", c.channel_groups, at_least(1),
          "Groups of channels, each with its share of the filters.");
    b.key("bias", c.bias, any(), "Adds a bias.");
  }
  b.key("activation", c.activation, activations(), "Applied to the result.");
}

void bind_recurrent(Binder& b, LayerConfig& c) {
  b.required("units", c.units, units_rule(), "Size of the hidden state.");
  b.key("layers", c.layers, at_least(1), "Layers stacked on one another.");
  b.key("output", c.output, one_of({"last", "every"}),
        "The state after the last valid step, or after every step.");
}

void bind_dense(Binder& b, LayerConfig& c) {
  b.required("units", c.units, units_rule(), "Outputs; classes: as many as the target has.");
  b.key("activation", c.activation, activations(), "Applied to the result.");
  b.key("bias", c.bias, any(), "Adds a bias.");
}

void bind_embedding(Binder& b, LayerConfig& c) {
  b.required("dim", c.dim, at_least(1), "Numbers per id; the rows are the field's classes.");
  b.key("sparse", c.sparse, any(), "Gradients and updates touch only the ids of the batch.");
  b.key("init_scale", c.init_scale, above(0), "Standard deviation of the initial table.");
}

void bind_pool(Binder& b, LayerConfig& c) {
  b.key("size", c.size, at_least(1), "Height and width of the window, in pixels.");
  b.key("stride", c.pool_stride, at_least(0), "Pixels between windows; 0: size.");
  if (c.kind == "max_pool2d")
    b.key("padding", c.padding, at_least(0), "Pixels that windows may reach over each side.");
}

void bind_batch_norm(Binder& b, LayerConfig& c) {
  b.key("groups", c.groups, at_least(0),
        "Groups of batch positions with statistics of their own; 0: groups of at least 32 rows.");
  b.key("momentum", c.momentum, between(0, 1), "Share of a step in the running statistics.");
  b.key("epsilon", c.epsilon, above(0), "Added to the variance.");
}

void bind_layer(Binder& b, LayerConfig& c) {
  if (c.kind == "use") return b.describe_use();   // written out before layers are read
  if (b.mode() == Binder::Mode::read) c.place = b.place();
  b.key("name", c.name, any(), "The layer's name; default: its kind and index.");
  if (c.kind == "concat" || c.kind == "dot" || c.kind == "add") {
    b.required("from", c.parts, any(), "The values to join.");
    if (c.kind == "add") b.key("activation", c.activation, activations(), "Applied to the sum.");
    return;
  }
  b.key("from", c.from, any(), "The value it reads; default: the layer before.");
  if (c.kind == "embedding") bind_embedding(b, c);
  if (c.kind == "rnn" || c.kind == "lstm" || c.kind == "gru") bind_recurrent(b, c);
  if (c.kind == "conv1d" || c.kind == "conv2d") bind_convolution(b, c);
  if (c.kind == "max_pool2d" || c.kind == "avg_pool2d") bind_pool(b, c);
  if (c.kind == "batch_norm") bind_batch_norm(b, c);
  if (c.kind == "dropout")
    b.key("rate", c.rate, below_one(), "Share of elements set to zero in training.");
  if (c.kind == "activation") {
    if (b.mode() == Binder::Mode::read) c.activation = "relu";
    b.key("kind", c.activation, activations(), "The function.");
  }
  if (c.kind == "dense") bind_dense(b, c);
}

}  // namespace

void bind(Binder& b, InputConfig& c) {
  if (b.mode() == Binder::Mode::read) c.place = b.place();
  b.key("field", c.field, any(), "Field of the shard set; default: the input's name.");
  b.key("max_length", c.max_length, at_least(0),
        "Ragged fields: longest sequence, longer rows keep their end; 0: the longest row.");
  b.key("normalize", c.normalize, one_of({"none", "standard"}),
        "standard: subtract the training split's mean, divide by its deviation.");
  b.key("scale", c.scale, any(), "Factor on raw values.");
}

void bind(Binder& b, LayerConfig& c) {
  b.tagged({"embedding", "rnn", "lstm", "gru", "conv1d", "max_over_time", "conv2d", "max_pool2d",
            "avg_pool2d", "global_avg_pool", "batch_norm", "dropout", "activation", "concat", "dot",
            "add", "flatten", "dense", "use"},
           c.kind, "One layer.", [&](Binder& inner) { bind_layer(inner, c); });
}

void bind(Binder& b, LossConfig& c) {
  b.tagged({"mse", "bce", "cross_entropy"}, c.kind, "What is minimised.", [&](Binder& inner) {
    if (inner.mode() == Binder::Mode::read) c.place = inner.place();
    inner.key("prediction", c.prediction, any(), "The value judged; default: the last layer.");
    inner.required("target", c.target, any(), "The input or field it is compared with.");
  });
}

void bind(Binder& b, ModelConfig& c) {
  b.named("inputs", c.inputs, "Values read from the shard set.");
  b.expand_blocks("blocks", "layers");
  b.list("layers", c.layers, "The layers, each a map of one key.");
  b.group("loss", c.loss, "The loss.");
}

}  // namespace cohort
