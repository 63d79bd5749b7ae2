from graphopt.importers._gguf import GGUF_FILE, GgufCheckpoint, write_model_folder
