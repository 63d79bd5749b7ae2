"""stub"""


def write_page(page, results):
    print("render later")
