"""The reference recipe as plain Keras code, as in the Keras guides; nothing of Graft in it.

    python -m benchmarks.reference '{"frozen_epochs": 5, "unfrozen_epochs": 1}'

prints one line of JSON with the time of both stages and the test accuracy after each. The options
are the keys of `OPTIONS`; with `folder`, images come from its train/, validation/ and test/ instead
of tf_flowers.
"""

import json
import sys
import time

OPTIONS = {
    "backbone": "MobileNetV2",
    "alpha": 0.35,
    "weights": "imagenet",
    "test": "train[:10%]",
    "validation": "train[10%:25%]",
    "train": "train[25%:]",
    "folder": None,
    "frozen_epochs": 5,
    "unfrozen_epochs": 1,
}
SIZE, BATCH = 224, 32


def main(options) -> dict:
    began = time.time()
    import keras

    keras.utils.set_random_seed(0)
    modules = {"MobileNetV2": "mobilenet_v2", "Xception": "xception"}
    application = getattr(keras.applications, modules[options["backbone"]])
    data = from_folder if options["folder"] else from_tfds
    test, validation, train, classes = data(options, application.preprocess_input)

    width = {"alpha": options["alpha"]} if options["alpha"] else {}
    base = getattr(keras.applications, options["backbone"])(
        include_top=False, weights=options["weights"], input_shape=(SIZE, SIZE, 3), **width
    )
    pooled = keras.layers.GlobalAveragePooling2D()(base.output)
    output = keras.layers.Dense(classes, activation="softmax")(pooled)
    model = keras.Model(base.input, output)
    found = {"backbone": options["backbone"]}

    def stage(name, rate, decay, epochs):
        schedule = keras.optimizers.schedules.InverseTimeDecay(rate, 1, decay)
        model.compile(
            loss="sparse_categorical_crossentropy",
            optimizer=keras.optimizers.SGD(schedule, momentum=0.9),
            metrics=["accuracy"],
        )
        begun = time.time()
        history = model.fit(train, validation_data=validation, epochs=epochs, verbose=0)
        found[f"{name}_seconds"] = time.time() - begun
        found[f"{name}_validation"] = history.history["val_accuracy"]
        found[f"{name}_test"] = model.evaluate(test, verbose=0)[1]
        # With imports: what a user waits for.
        found[f"{name}_total_seconds"] = time.time() - began

    for layer in base.layers:
        layer.trainable = False
    stage("frozen", 0.2, 0.01, options["frozen_epochs"])
    if options["unfrozen_epochs"]:
        for layer in base.layers:
            layer.trainable = True
        stage("unfrozen", 0.01, 0.001, options["unfrozen_epochs"])
    return found


def from_tfds(options, preprocess):
    import tensorflow as tf
    import tensorflow_datasets as tfds

    slices = [options["test"], options["validation"], options["train"]]
    (test, validation, train), info = tfds.load(
        "tf_flowers", split=slices, as_supervised=True, with_info=True
    )

    def prepare(image, label):
        return preprocess(tf.image.resize(image, (SIZE, SIZE))), label

    def batches(part):
        # In parallel and with prefetching, as the guides advise: a good baseline.
        part = part.map(prepare, num_parallel_calls=tf.data.AUTOTUNE)
        return part.batch(BATCH).prefetch(tf.data.AUTOTUNE)

    classes = info.features["label"].num_classes
    return batches(test), batches(validation), batches(train.shuffle(1000)), classes


def from_folder(options, preprocess):
    import keras
    import tensorflow as tf

    def batches(part):
        read = keras.utils.image_dataset_from_directory(
            f"{options['folder']}/{part}",
            image_size=(SIZE, SIZE),
            batch_size=BATCH,
            shuffle=part == "train",
            verbose=False,
        )
        parts.append(read.class_names)
        return read.map(lambda x, y: (preprocess(x), y)).prefetch(tf.data.AUTOTUNE)

    parts = []
    return batches("test"), batches("validation"), batches("train"), len(parts[0])


if __name__ == "__main__":
    print(json.dumps(main(OPTIONS | json.loads(sys.argv[1] if sys.argv[1:] else "{}"))))
